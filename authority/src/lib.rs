//! Authority over the network, as an exact set.
//!
//! A [`Tuple`] is one thing that can be done: an operation, a protocol, a local end and a remote end. An
//! [`Authority`] is a set of tuples, and this crate is the algebra of those sets: union, intersection,
//! difference, subset and equality, all exact, for rules with prefixes, ranges, wildcards, address classes
//! and DNS names. There is no I/O in it, and nothing of sockets or of wasm.
//!
//! ```
//! use refcap_authority::{Authority, Query, Rules};
//!
//! let parent: Authority = "connect tcp *:443; connect tcp *.example.com:443; except private".parse()?;
//!
//! // A child is what is asked for, as far as the parent allows it. What is left out is as in the parent.
//! let child = parent.only(&Rules::parse("connect tcp *:443 from 192.0.2.1")?)?;
//! assert!(child.is_subset(&parent));
//! assert_eq!(child.to_string(), "connect tcp *:443 from 192.0.2.1; except private");
//!
//! let query: Query = "connect tcp 10.1.2.3:443".parse()?;
//! assert!(!child.allows(&query));
//! assert_eq!(
//!     child.explain(&query).to_string(),
//!     "connect tcp 10.1.2.3:443 is excepted by \"private\", \
//!      though \"connect tcp *:443 from 192.0.2.1\" would allow it"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The text form
//!
//! ```text
//! OPERATIONS PROTOCOLS DESTINATION [from SOURCE] [without HOST, HOST ...]
//! except HOST, HOST:PORTS, OPERATIONS PROTOCOLS DESTINATION ...
//! names to HOST, HOST ...
//! ```
//!
//! Rules are parted by `;` or the end of a line; `#` begins a comment. No rules allow nothing. The order
//! says nothing: whatever a rule allows is allowed, unless an exception takes it away, wherever that stands.
//! `GRAMMAR.md` beside the manifest has the grammar.
//!
//! - Outbound operations (`connect`, `send`) have the remote end as their destination, inbound ones (`bind`,
//!   `listen`, `accept`, `receive`) the local end. No operation implies another: a server has `bind`,
//!   `listen` and `accept`.
//! - A host is `*`, an address, a prefix, a range `10.0.0.1-10.0.0.9`, a [`Class`] such as `private`, a DNS
//!   name, or `*.name` for all that is under a name. IPv6 stands in brackets: `[2001:db8::/32]:443`.
//! - As a remote end `*` is every **ordinary** address: all but unspecified, multicast and broadcast ones.
//!   As a local end it is every address. It never stands for names; `any-name` does.
//! - Prefixes and ranges mean exactly what they say; `0.0.0.0/0` is every IPv4 address.
//! - A name of one label has a dot at its end, `localhost.`, so that a misspelt class is an error and not
//!   a name.
//! - `without` leaves hosts out of one rule; `except` leaves them out of all.
//! - A `from` that is left out is `from *`.
//! - Port 0 is a port like others. For `bind` and `listen` it stands for "a port that the system chooses":
//!   `bind tcp 127.0.0.1:0` lets a program ask for port 0 and take whatever free port the system gives, and
//!   no port by its number.
//!
//! # Names
//!
//! Names and addresses are different remote ends. Authority over a name allows resolving it and using what
//! it stands for. Which addresses it may stand for is another set, [`Answers`], which the one who resolves it
//! asks: the hosts of `names to`, or every ordinary address but loopback, private, link-local and metadata
//! ones if none are said; without whatever an exception takes away. A child's answers are never more than its
//! parent's.
//!
//! With the feature `idna`, which is on by default, names may be internationalised; see [`DnsName`].
//!
//! # Terms
//!
//! Rules say what may be done. [`Terms`] say how much of it, until when, and whether it may be passed on:
//! `limit sockets 10, out 64KiB/s, lease 30s; no derive`. This crate reads and prints them; keeping them is
//! for the one who grants. A [`Policy`] has both.
//!
//! # What other systems can say
//!
//! The sketch of [wasmtime#7681] has one grant for each initiator and protocol:
//!
//! | there | here |
//! |---|---|
//! | `TcpOutbound { remote_host, remote_port }` | `connect tcp api.example.com:443` |
//! | `TcpOutbound { .., local_interface, local_port }` | `connect tcp api.example.com:443 from 192.0.2.1:40000-49999` |
//! | TCP, the other end as initiator | `bind tcp 192.0.2.1:8080; listen,accept tcp 192.0.2.1:8080 from 198.51.100.0/24` |
//! | UDP, this end as initiator | `connect,send udp 8.8.8.8:53; receive udp *:* from 8.8.8.8:53; bind udp *:*` |
//! | UDP, the other end as initiator | `bind,receive udp 192.0.2.1:53; send udp *:* from 192.0.2.1:53` |
//! | any interface, ephemeral port | `connect tcp api.example.com:443 from *:32768-60999` |
//! | a pattern of domain names | `connect tcp *.example.com:443` |
//!
//! Wasmer's `--net-filter`:
//!
//! | there | here |
//! |---|---|
//! | `dns:allow=example.com:80` | `connect,send tcp,udp example.com:80` |
//! | `dns:allow=*.example.com:{80,443}` | `connect,send tcp,udp *.example.com:80,443` |
//! | `dns:deny=*danger.xyz:*` | `except danger.xyz, *.danger.xyz` (not `verydanger.xyz`) |
//! | `dns:allow=*:*` | `connect,send tcp,udp any-name:*` |
//! | `ipv4:allow=127.0.0.1/24:80/out` | `connect,send tcp,udp 127.0.0.0/24:80` |
//! | `ipv4:allow={10.0.0.1,10.0.0.2}:80-90/in` | `listen,accept tcp *:80-90 from 10.0.0.1-10.0.0.2` |
//! | `ipv6:allow=*:*/out` | `connect,send tcp,udp [::/0]:*` |
//! | `ipv4:deny=192.168.0.0/16:*` | `except 192.168.0.0/16` |
//!
//! # Addresses
//!
//! Every address is made [`canonical`] where it comes in: IPv4-mapped IPv6 is IPv4, for rules, tuples and
//! what is printed alike. An IPv6 address that reaches an IPv4 host, by NAT64, 6to4, Teredo, ISATAP and the
//! like ([`embedded`]), is judged by that host as well: [`Authority::permits`], which is what enforcement
//! asks, demands authority over both. Octal, hexadecimal and short spellings, zone ids and prefixes with host
//! bits are errors, with what would be right.
//!
//! # How sets are represented
//!
//! As nested step functions over ordered spaces: hosts, remote ports, local addresses, local ports. Names
//! are ordered by their labels from the last to the first, so that `*.name` is an interval like a prefix
//! is. The representation has one form for each set, whatever rules it came from: equality compares it, and
//! [`Authority::to_rules`] prints it. Look-ups are a binary search or an index on each level.
//!
//! A child that a simple request derives ([`Request`] says which are simple) is represented by its parent and
//! the request, and asked so. Its set is made when something needs it, and no more than eight such requests
//! follow one another before one is. Nobody can tell, but for the time that it takes.
//!
//! Whatever makes a set has a budget and fails with [`TooComplex`] beyond it, however contrived the rules:
//! no authority is larger than [`MAX_CELLS`].
//!
//! [wasmtime#7681]: https://github.com/bytecodealliance/wasmtime/issues/7681

#![forbid(unsafe_code)]

mod address;
mod answers;
mod authority;
mod binary;
mod bound;
mod bound_host;
mod build;
mod builder;
mod class;
mod derive;
mod explain;
mod extents;
mod form;
mod name;
mod policy;
mod query;
mod region;
mod request;
mod rules;
#[cfg(feature = "serde")]
mod serial;
mod sets;
mod terms;
mod text;
mod tuple;

pub use address::{Embedded, IpRange, canonical, canonical_socket, embedded};
pub use answers::Answers;
pub use authority::{Authority, Family, LocalRanges};
pub use binary::DecodeError;
pub use builder::RuleBuilder;
pub use class::{Class, classes_of};
pub use derive::DeriveError;
pub use explain::{Clause, Explanation, Field, MAX_EXAMINED, Nearest, Verdict};
pub use name::{DnsName, NameError};
pub use policy::Policy;
pub use query::Query;
pub use region::{MAX_CELLS, TooComplex};
pub use request::Request;
pub use rules::{End, Exception, Host, Rule, RuleError, Rules};
#[cfg(feature = "serde")]
pub use serial::Structured;
pub use sets::{OperationSet, PortSet, ProtocolSet};
pub use terms::{MAX_LABEL, MAX_LEASE, Terms, TermsError};
pub use text::{MAX_RULES, MAX_TEXT, ParseError, TextError};
pub use tuple::{Direction, Operation, Protocol, Remote, Tuple};
