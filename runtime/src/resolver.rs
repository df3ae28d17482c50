//! From names to addresses.
//!
//! The runtime asks a [`Resolver`] only for names that a capability allows, and takes from its answer only
//! the addresses that the capability allows names to stand for.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use refcap_authority::DnsName;
use thiserror::Error;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The addresses, the best first.
    pub addresses: Vec<IpAddr>,
    /// For how long they are good: the time to live that is left. A guest's Name has no longer lease. With
    /// zero it can be connected to once, at once.
    pub valid_for: Duration,
}

/// Why a name has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name does not exist, or has no address.
    #[error("the name does not exist or has no address")]
    NotFound,
    /// No server gave an answer.
    #[error("no answer: {0}")]
    Failed(String),
    /// The resolver is not set up.
    #[error("this host has no resolver: {0}")]
    NotConfigured(String),
}

/// A look-up that is going on.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Answer, ResolveError>> + Send + 'a>>;

/// Looks names up for guests.
///
/// An embedder can put its own in place of the system's, with
/// [`VatBuilder::resolver`](crate::VatBuilder::resolver): to serve names of its own, to ask over an encrypted
/// channel, to record who asked what.
///
/// ```
/// use refcap::{Answer, DnsName, Lookup, ResolveError, Resolver};
///
/// /// Knows one name.
/// #[derive(Debug)]
/// struct One;
///
/// impl Resolver for One {
///     fn resolve<'a>(&'a self, name: &'a DnsName) -> Lookup<'a> {
///         Box::pin(async move {
///             match name.as_str() {
///                 "db.example" => Ok(Answer {
///                     addresses: vec!["192.0.2.7".parse().unwrap()],
///                     valid_for: std::time::Duration::from_secs(60),
///                 }),
///                 _ => Err(ResolveError::NotFound),
///             }
///         })
///     }
/// }
/// ```
pub trait Resolver: fmt::Debug + Send + Sync {
    /// Looks up the addresses of a name. It is fully qualified: no search list may be added to it. Dropping
    /// the future gives the look-up up.
    fn resolve<'a>(&'a self, name: &'a DnsName) -> Lookup<'a>;
}

/// The default resolver: asks the name servers of this system's configuration, or others, and keeps answers
/// for as long as they are good. It reads the system's hosts file first.
///
/// It is `hickory-resolver`, in this process, because the C library's look-up does not tell how long an
/// answer is good for.
pub struct SystemResolver {
    inner: Result<TokioResolver, ResolveError>,
}

impl SystemResolver {
    /// Asks the servers that this system's configuration names. Where there is no such configuration, every
    /// look-up is [`ResolveError::NotConfigured`].
    pub fn new() -> SystemResolver {
        let inner = TokioResolver::builder_tokio()
            .and_then(|mut builder| {
                builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
                builder.build()
            })
            .map_err(|error| ResolveError::NotConfigured(error.to_string()));
        SystemResolver { inner }
    }

    /// Asks these servers, by UDP and, for long answers, by TCP.
    pub fn with_servers(servers: &[SocketAddr]) -> SystemResolver {
        let servers = servers.iter().map(|server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let inner = builder
            .build()
            .map_err(|error| ResolveError::NotConfigured(error.to_string()));
        SystemResolver { inner }
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        SystemResolver::new()
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a DnsName) -> Lookup<'a> {
        Box::pin(async move {
            let resolver = self.inner.as_ref().map_err(Clone::clone)?;
            // With the dot at the end no domain of a search list is tried: `api.example.com` never becomes
            // `api.example.com.attacker.net`.
            let found = resolver.lookup_ip(format!("{name}.")).await.map_err(|error| {
                if error.is_no_records_found() {
                    ResolveError::NotFound
                } else {
                    ResolveError::Failed(error.to_string())
                }
            })?;
            Ok(Answer {
                addresses: found.iter().collect(),
                valid_for: found.valid_until().saturating_duration_since(Instant::now()),
            })
        })
    }
}

impl fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemResolver")
            .field("is_configured", &self.inner.is_ok())
            .finish_non_exhaustive()
    }
}
