//! What a look-up costs as the number of rules grows, and what it costs to derive a child.
//!
//! Before criterion's part, a quick measurement of its own fails the run when a random look-up among
//! 100,000 rules takes more than three times as long as one among 10.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use refcap_authority::{Answers, Authority, DnsName, Operation, Protocol, Remote, Request, Rules, Tuple};

const SIZES: [u32; 4] = [1, 10, 1_000, 100_000];
/// Tuples that are asked about in turn: enough that their answers are not in the branch predictor.
const TUPLES: usize = 4096;
const MOST: f64 = 3.0;

fn main() -> ExitCode {
    let policies: Vec<Policy> = SIZES.into_iter().map(Policy::new).collect();
    let fast_enough = report(&policies);
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(1))
        .warm_up_time(Duration::from_millis(300))
        .configure_from_args();
    benchmark(&mut criterion, &policies);
    criterion.final_summary();
    if fast_enough {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// An authority of that many rules, and what it is asked.
struct Policy {
    size: u32,
    rules: Rules,
    authority: Authority,
    hits: Vec<Tuple>,
    misses: Vec<Tuple>,
    name_hits: Vec<Tuple>,
}

impl Policy {
    fn new(size: u32) -> Policy {
        let mut random = Random(u64::from(size) + 1);
        // Prefixes as in lists that operators have: mostly single hosts and small networks all over the
        // space, and a few sets of ports. A quarter of the rules are names.
        let mut text = String::new();
        let mut ends = Vec::new();
        let mut names = Vec::new();
        for n in 0..size {
            let port = [443, 80, 8443, 5432][random.below(4) as usize];
            if n % 4 == 3 {
                let name = format!(
                    "host-{:x}.example{}.com",
                    random.below(u32::MAX),
                    random.below(100)
                );
                text += &format!("connect tcp {name}:{port}\n");
                names.push((DnsName::new(&name).unwrap(), port));
                continue;
            }
            let length = [32, 32, 32, 28, 24][random.below(5) as usize];
            let ip = random.below(u32::MAX) & (u32::MAX << (32 - length));
            text += &format!("connect tcp {}/{length}:{port}\n", Ipv4Addr::from(ip));
            ends.push((ip, port));
        }
        let rules = Rules::parse(&text).unwrap();
        let local: SocketAddr = "192.0.2.1:50000".parse().unwrap();
        let tuple = |remote: Remote| Tuple::new(Operation::Connect, Protocol::Tcp, local, remote);
        let address = |ip: u32, port: u16| Remote::from((IpAddr::from(Ipv4Addr::from(ip)), port));
        let authority = Authority::from_rules(&rules).unwrap();
        let mut pick = |length: usize| random.below(length as u32) as usize;
        let hits = (0..TUPLES)
            .map(|_| ends[pick(ends.len())])
            .map(|(ip, port)| tuple(address(ip, port)));
        let hits: Vec<Tuple> = hits.collect();
        let name_hits = (0..if names.is_empty() { 0 } else { TUPLES })
            .map(|_| names[pick(names.len())].clone())
            .map(|name| tuple(Remote::from(name)))
            .collect();
        let misses = std::iter::repeat_with(|| tuple(address(random.below(u32::MAX), 22)))
            .filter(|tuple| !authority.contains(tuple))
            .take(TUPLES)
            .collect();
        assert!(hits.iter().all(|tuple| authority.contains(tuple)));
        Policy {
            size,
            rules,
            authority,
            hits,
            misses,
            name_hits,
        }
    }
}

/// Prints a table of medians and says whether the growth is within bounds.
fn report(policies: &[Policy]) -> bool {
    let mut fast_enough = true;
    println!(
        "{:>24} {:>9} {:>9} {:>9} {:>9}   ratio 10^5 : 10",
        "median ns", 1, 10, 1_000, 100_000
    );
    let mut row = |what: &str, bounded: bool, cost: &dyn Fn(&Policy) -> f64| {
        let medians: Vec<f64> = policies.iter().map(cost).collect();
        let ratio = medians[3] / medians[1];
        let verdict = if !bounded {
            ""
        } else if ratio <= MOST {
            "  ok"
        } else {
            fast_enough = false;
            "  TOO SLOW"
        };
        let cells: Vec<String> = medians.iter().map(|ns| format!("{ns:>9.1}")).collect();
        println!("{what:>24} {}   {ratio:.2}{verdict}", cells.join(" "));
    };
    row("contains, hit", true, &|policy| {
        per_tuple(&policy.hits, |tuple| policy.authority.contains(tuple))
    });
    row("contains, miss", true, &|policy| {
        per_tuple(&policy.misses, |tuple| policy.authority.contains(tuple))
    });
    row("permits, hit", true, &|policy| {
        per_tuple(&policy.hits, |tuple| policy.authority.permits(tuple))
    });
    row("contains, name", true, &|policy| {
        per_tuple(&policy.name_hits, |tuple| policy.authority.contains(tuple))
    });
    row("build, whole", false, &|policy| {
        median(if policy.size > 10_000 { 3 } else { 25 }, || {
            black_box(Authority::from_rules(black_box(&policy.rules)).unwrap());
        })
    });
    let small = Rules::parse("connect tcp 10.0.0.0/8:443").unwrap();
    row("only, sets at once", false, &|policy| {
        median(25, || {
            let small = Authority::from_rules(black_box(&small)).unwrap();
            black_box(policy.authority.intersect(&small).unwrap());
        })
    });
    row("only, one rule", false, &|policy| {
        each(|| policy.authority.only(black_box(&small)).unwrap())
    });
    let answers = Answers::standard();
    for (what, text) in REQUESTS {
        let bytes = Rules::parse(text).unwrap().encode();
        row(&format!("derive, {what}"), false, &|policy| {
            each(|| {
                let request = Request::decode(black_box(&bytes)).unwrap();
                (
                    policy.authority.only_request(&request),
                    answers.only_request(&request),
                )
            })
        });
    }
    row("derive, three in a row", false, &|policy| {
        let request = Request::from(small.clone());
        each(|| {
            let child = policy.authority.only_request(black_box(&request)).unwrap();
            let grandchild = child.only_request(black_box(&request)).unwrap();
            grandchild.only_request(black_box(&request)).unwrap()
        })
    });
    row("contains, by a bound", true, &|policy| {
        let everywhere = Rules::parse("connect tcp *:*").unwrap();
        let child = policy.authority.only(&everywhere).unwrap();
        per_tuple(&policy.hits, |tuple| child.contains(tuple))
    });
    row("print, whole", false, &|policy| {
        median(if policy.size > 10_000 { 3 } else { 25 }, || {
            // A new authority each time: the printed form is kept.
            let authority = policy.authority.union(&Authority::nothing()).unwrap();
            black_box(authority.to_rules());
        })
    });
    fast_enough
}

/// Requests as those who derive at run time have them. What is measured is all of it: reading the bytes,
/// deriving authority and answers, and dropping both.
const REQUESTS: [(&str, &str); 5] = [
    ("prefix", "connect tcp 10.0.0.0/8:443"),
    ("one address", "connect tcp 10.1.2.3:443"),
    ("any host", "connect,send tcp,udp *:*"),
    ("name", "connect tcp api.example.com:443,8443"),
    ("inbound", "bind,listen,accept tcp 10.0.0.1:8080"),
];

/// The median over many rounds of the time of one of many runs.
fn each<T>(mut run: impl FnMut() -> T) -> f64 {
    const RUNS: u32 = 1000;
    median(51, || {
        for _ in 0..RUNS {
            black_box(run());
        }
    }) / f64::from(RUNS)
}

/// The median over many rounds of the time for one tuple.
fn per_tuple(tuples: &[Tuple], ask: impl Fn(&Tuple) -> bool) -> f64 {
    if tuples.is_empty() {
        return f64::NAN;
    }
    median(151, || {
        for tuple in tuples {
            black_box(ask(black_box(tuple)));
        }
    }) / tuples.len() as f64
}

/// The median time of a run, in nanoseconds.
fn median(rounds: usize, mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[rounds / 2].as_nanos() as f64
}

fn benchmark(criterion: &mut Criterion, policies: &[Policy]) {
    let mut group = criterion.benchmark_group("contains");
    for policy in policies {
        for (what, tuples) in [("hit", &policy.hits), ("miss", &policy.misses)] {
            let mut turn = tuples.iter().cycle();
            group.bench_function(BenchmarkId::new(what, policy.size), |bencher| {
                bencher.iter(|| {
                    turn.next()
                        .map(|tuple| policy.authority.contains(black_box(tuple)))
                });
            });
        }
    }
    group.finish();
    let small = Rules::parse("connect tcp 10.0.0.0/8:443").unwrap();
    let mut group = criterion.benchmark_group("only");
    for policy in policies {
        group.bench_function(BenchmarkId::new("one rule", policy.size), |bencher| {
            bencher.iter(|| policy.authority.only(black_box(&small)).unwrap());
        });
    }
    group.finish();
}

/// A small generator (splitmix64): the runs are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u64::from((z >> 32) as u32) * u64::from(end)) >> 32) as u32
    }
}
