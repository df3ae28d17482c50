//! Checking an address against many rules: refcap's algebra, cap-std's `Pool`, and a list of prefixes.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use cap_primitives::net::Pool;
use ipnet::{IpNet, Ipv4Net};
use refcap_authority::{Authority, Operation, Protocol, Tuple};
use wasmtime::{Result, ensure};

use super::Scale;
use crate::measure::{Case, Measured, compare};

const REFCAP: &str = "refcap";
const POOL: &str = "cap-std";
const LINEAR: &str = "linear";
/// Addresses that are asked about in turn.
const ASKED: usize = 1 << 10;

/// An xorshift generator: the same rules in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// That many prefixes below 128.0.0.0, of 16 to 28 bits, for every port.
fn prefixes(count: usize, random: &mut Random) -> Vec<Ipv4Net> {
    (0..count)
        .map(|_| {
            let length = 16 + (random.next() % 13) as u8;
            let address = Ipv4Addr::from_bits(random.next() as u32 & 0x7fff_ffff | 0x0100_0000);
            Ipv4Net::new(address, length).expect("the length is one").trunc()
        })
        .collect()
}

/// Addresses inside of random prefixes.
fn inside(prefixes: &[Ipv4Net], random: &mut Random) -> Vec<SocketAddr> {
    (0..ASKED)
        .map(|_| {
            let prefix = prefixes[random.next() as usize % prefixes.len()];
            let host = random.next() as u32 & prefix.hostmask().to_bits();
            let address = Ipv4Addr::from_bits(prefix.network().to_bits() | host);
            SocketAddr::new(IpAddr::V4(address), 443)
        })
        .collect()
}

/// Addresses that no prefix holds.
fn outside(random: &mut Random) -> Vec<SocketAddr> {
    (0..ASKED)
        .map(|_| {
            let address = Ipv4Addr::from_bits(random.next() as u32 & 0x1fff_ffff | 0x8000_0000);
            SocketAddr::new(IpAddr::V4(address), 443)
        })
        .collect()
}

/// Hits and misses for 1 to 100,000 rules.
pub(crate) fn check(scale: Scale) -> Result<Vec<Measured>> {
    let mut results = Vec::new();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for count in [1, 10, 1_000, 100_000] {
        let prefixes = prefixes(count, &mut random);
        let rules: Vec<String> = prefixes
            .iter()
            .map(|prefix| format!("connect tcp {prefix}:*"))
            .collect();
        let authority: Authority = rules.join("\n").parse()?;
        let mut pool = Pool::new();
        for prefix in &prefixes {
            let ambient = cap_primitives::ambient_authority();
            pool.insert_ip_net_port_range(IpNet::V4(*prefix), 0, None, ambient);
        }
        let (pool, prefixes) = (Rc::new(pool), Rc::new(prefixes));
        for (row, asked, expected) in [
            ("check, hit", inside(&prefixes, &mut random), true),
            ("check, miss", outside(&mut random), false),
        ] {
            let at = format!("{count} rules");
            let local: SocketAddr = "0.0.0.0:0".parse()?;
            let tuples: Vec<_> = asked
                .iter()
                .map(|&remote| Tuple::new(Operation::Connect, Protocol::Tcp, local, remote))
                .collect();
            let (authority, pool, list) = (authority.clone(), pool.clone(), prefixes.clone());
            let asked = Rc::new(asked);
            let (for_pool, for_list) = (asked.clone(), asked);
            let mut cases = [
                Case::new(row, &at, REFCAP, move |times| {
                    count_hits(times, expected, |i| authority.permits(black_box(&tuples[i])))
                }),
                Case::new(row, &at, POOL, move |times| {
                    count_hits(times, expected, |i| {
                        pool.check_addr(black_box(&for_pool[i])).is_ok()
                    })
                }),
                Case::new(row, &at, LINEAR, move |times| {
                    count_hits(times, expected, |i| match black_box(for_list[i]).ip() {
                        IpAddr::V4(address) => list.iter().any(|prefix| prefix.contains(&address)),
                        IpAddr::V6(_) => false,
                    })
                }),
            ];
            results.extend(compare(&mut cases, scale.effort)?);
        }
    }
    Ok(results)
}

/// Asks that often, and fails if an answer is not the expected one.
fn count_hits(times: u32, expected: bool, mut ask: impl FnMut(usize) -> bool) -> Result<()> {
    let mut right = 0;
    for time in 0..times as usize {
        right += u32::from(ask(time % ASKED) == expected);
    }
    ensure!(right == times, "{right} of {times} answers were right");
    Ok(())
}
