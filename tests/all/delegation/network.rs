//! The network of the sequences: what there is that could be allowed, and who is there.
//!
//! There are 17 *tuples*, each a bit of a set: connecting to four ports of two addresses of this machine, by TCP and by
//! UDP, and binding a datagram socket. At two of the ports somebody takes connections; at the others nobody does, and
//! nobody can come while the tests run.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::OnceLock;

use socket2::{Domain, Socket, Type};

/// The tuples that are TCP: from 0.
pub(super) const TCP: usize = 8;
/// The first tuple that is UDP; there are as many.
pub(super) const UDP: usize = TCP;
/// The tuple of binding a datagram socket.
pub(super) const BIND: usize = 16;
pub(super) const TUPLES: usize = 17;
/// Those of connecting by UDP.
pub(super) const UDP_TUPLES: u32 = 0xff << UDP;
/// All of them.
pub(super) const ALL: u32 = (1 << TUPLES) - 1;

const HOSTS: [&str; 2] = ["127.0.0.1", "127.0.0.2"];
const PORTS: usize = 4;
/// The places of those ports of the first address at which somebody listens.
const OPEN: [usize; 2] = [0, 1];

/// Which address a tuple's remote end is.
pub(super) fn address(tuple: usize) -> SocketAddr {
    let (host, port) = (HOSTS[tuple % TCP / PORTS], tuple % PORTS);
    SocketAddr::new(host.parse().unwrap(), base() + u16::try_from(port).unwrap())
}

/// Whether somebody takes connections there.
pub(super) fn is_open(tuple: usize) -> bool {
    OPEN.contains(&tuple)
}

/// A tuple as a rule, and as a query.
pub(super) fn query(tuple: usize) -> String {
    match tuple {
        BIND => "bind udp 127.0.0.1:0".to_owned(),
        tuple if tuple < UDP => format!("connect tcp {}", address(tuple)),
        tuple => format!("connect udp {}", address(tuple)),
    }
}

/// The rules that allow these tuples and nothing else.
pub(super) fn rules(tuples: u32) -> String {
    let all = (0..TUPLES).filter(|tuple| tuples & 1 << tuple != 0);
    all.map(|tuple| query(tuple) + "; ").collect()
}

/// A rule that somebody could write, and which tuples it is about.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) rules: String,
    pub(super) tuples: u32,
    /// Whether it asks for more than there are tuples of: every host.
    pub(super) is_wild: bool,
}

/// Makes a rule of numbers: of one protocol or both, one host or every one, a range of ports, and perhaps binding.
pub(super) fn asked(numbers: [u32; 3]) -> Asked {
    let [shape, first, last] = numbers;
    let pick = |number: u32, of: usize| number as usize % of;
    let (first, last) = (pick(first, PORTS), pick(last, PORTS));
    let (first, last) = (first.min(last), first.max(last));
    let protocols = ["tcp", "udp", "tcp,udp"][pick(shape, 3)];
    let host = pick(shape >> 4, 3);
    let binds = shape >> 8 & 1 == 1;
    let mut tuples = 0;
    for tuple in 0..2 * TCP {
        let is_of = |protocol: &str| protocols.split(',').any(|one| one == protocol);
        let speaks = is_of(if tuple < UDP { "tcp" } else { "udp" });
        let is_there = host == HOSTS.len() || tuple % TCP / PORTS == host;
        if speaks && is_there && (first..=last).contains(&(tuple % PORTS)) {
            tuples |= 1 << tuple;
        }
    }
    let port = |place: usize| base() + u16::try_from(place).unwrap();
    let name = HOSTS.get(host).copied().unwrap_or("*");
    let mut rules = format!("connect {protocols} {name}:{}-{}", port(first), port(last));
    if binds {
        tuples |= 1 << BIND;
        rules += "; bind udp 127.0.0.1:0";
    }
    Asked {
        rules,
        tuples,
        is_wild: host == HOSTS.len(),
    }
}

/// The first of the ports, all of which are ours until the process ends.
fn base() -> u16 {
    static BASE: OnceLock<u16> = OnceLock::new();
    *BASE.get_or_init(|| {
        // Below those that the system gives away; processes that run at the same time begin at different places.
        const FIRST: u16 = 30_000;
        const COUNT: u16 = 2_000;
        let begin = (std::process::id() as u16).wrapping_mul(16);
        let bases = (0..COUNT / 4).map(|n| FIRST + begin.wrapping_add(4 * n) % COUNT);
        let mut free = bases.filter_map(|base| Some((base, take(base)?)));
        let (base, taken) = free.next().expect("four ports in a row are free");
        for listener in taken {
            std::thread::spawn(move || listen(&listener));
        }
        base
    })
}

/// Takes all ports from this one on, and returns those at which somebody listens.
fn take(base: u16) -> Option<Vec<TcpListener>> {
    let mut kept = Vec::new();
    for (place, host) in HOSTS.iter().enumerate() {
        for port in 0..PORTS {
            let address: SocketAddr = format!("{host}:{}", base + u16::try_from(port).ok()?)
                .parse()
                .ok()?;
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
            match socket.bind(&address.into()) {
                Ok(()) => kept.push((place == 0 && OPEN.contains(&port), socket)),
                // Not every system has more than one address of its own.
                Err(_) if place > 0 => {}
                Err(_) => return None,
            }
        }
    }
    let mut open = Vec::new();
    for (is_open, socket) in kept {
        if is_open {
            socket.listen(1024).ok()?;
            open.push(TcpListener::from(socket));
        } else {
            // Bound and not listening: whoever connects is refused. Kept for ever.
            std::mem::forget(socket);
        }
    }
    Some(open)
}

/// Takes connections and keeps the youngest of them, of which no sequence has so many.
fn listen(listener: &TcpListener) {
    let mut kept = VecDeque::new();
    while let Ok((stream, _)) = listener.accept() {
        kept.push_back(stream);
        if kept.len() > 256 {
            kept.pop_front();
        }
    }
}
