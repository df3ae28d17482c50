//! All the guards before a Net.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use refcap_abi::guard::{Act, Question, TCP, UDP};
use refcap_authority::{DnsName, Protocol, Remote};

use super::{GuardError, MAX_GUARDS, Post};
use crate::vat::Refusal;

/// The guards before a Net, the one nearest to the grant first. Nearly always there are none, and then this is a
/// null pointer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guards(Option<Arc<Vec<Arc<Post>>>>);

/// What a guard is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) act: Act,
    pub(crate) protocol: Protocol,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<IpAddr>,
    pub(crate) remote_port: u16,
    pub(crate) name: Option<&'a DnsName>,
}

impl<'a> Asked<'a> {
    /// About a local end alone.
    pub(crate) fn at(act: Act, protocol: Protocol, local: SocketAddr) -> Asked<'a> {
        Asked {
            act,
            protocol,
            local: Some(local),
            remote: None,
            remote_port: 0,
            name: None,
        }
    }

    /// About a remote address, from a local end if it is known.
    pub(crate) fn between(
        act: Act,
        protocol: Protocol,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Asked<'a> {
        Asked {
            act,
            protocol,
            local,
            remote: Some(remote.ip()),
            remote_port: remote.port(),
            name: None,
        }
    }

    /// About a name and a port, and no address yet.
    pub(crate) fn name(act: Act, name: &'a DnsName, port: u16) -> Asked<'a> {
        Asked {
            act,
            protocol: Protocol::Tcp,
            local: None,
            remote: None,
            remote_port: port,
            name: Some(name),
        }
    }

    /// The same, with the name that the remote address stands for.
    pub(crate) fn called(self, remote: &'a Remote) -> Asked<'a> {
        let name = match remote {
            Remote::Name(name, _) => Some(name),
            Remote::Address(_) => None,
        };
        Asked { name, ..self }
    }
}

impl Guards {
    /// These and one more.
    pub(crate) fn with(&self, post: Arc<Post>) -> Result<Guards, GuardError> {
        let mut all: Vec<_> = self.iter().cloned().collect();
        if all.len() >= MAX_GUARDS {
            return Err(GuardError::TooMany);
        }
        all.push(post);
        Ok(Guards(Some(Arc::new(all))))
    }

    /// These and those.
    pub(crate) fn and(&self, others: &Guards) -> Result<Guards, GuardError> {
        others
            .iter()
            .try_fold(self.clone(), |all, post| all.with(post.clone()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Post>> {
        self.0.iter().flat_map(|all| all.iter())
    }

    /// How they are called.
    pub(crate) fn names(&self) -> Vec<String> {
        self.iter().map(|post| post.name().to_string()).collect()
    }

    /// Asks each in turn, until one does not say yes. To be called where the authority has permitted.
    #[inline]
    pub(crate) fn check(&self, asked: &Asked<'_>) -> Result<(), Refusal> {
        match &self.0 {
            None => Ok(()),
            Some(all) => check(all, asked),
        }
    }

    /// Counts a socket that they let through, for as long as it is open.
    pub(crate) fn count(&self) -> Open {
        for post in self.iter() {
            post.opened();
        }
        Open(self.clone())
    }
}

fn check(all: &[Arc<Post>], asked: &Asked<'_>) -> Result<(), Refusal> {
    // A clock before 1970 is wrong, and the guard may think what it likes of 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let question = Question {
        protocol: match asked.protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        },
        local: asked.local,
        remote: asked.remote,
        remote_port: asked.remote_port,
        name: asked.name.map(DnsName::as_str),
        seconds: now.as_secs(),
        nanoseconds: now.subsec_nanos(),
        ..Question::new(asked.act)
    };
    all.iter().try_for_each(|post| post.ask(asked, &question))
}

/// A socket that guards let through, while it is open.
#[derive(Debug)]
pub(crate) struct Open(Guards);

impl Drop for Open {
    fn drop(&mut self) {
        for post in self.0.iter() {
            post.closed();
        }
    }
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inbound = matches!(self.act, Act::Accept | Act::Receive);
        write!(f, "{} {}", self.act.word(), self.protocol)?;
        if let Some(name) = self.name {
            write!(f, " {name}:{}", self.remote_port)?;
        }
        let remote = self
            .remote
            .map(|remote| SocketAddr::new(remote, self.remote_port));
        match (remote, self.name) {
            (Some(remote), Some(_)) => write!(f, " at {}", remote.ip())?,
            (Some(remote), None) if !inbound => write!(f, " {remote}")?,
            _ => {}
        }
        match (self.local, remote) {
            (Some(local), Some(remote)) if inbound => write!(f, " {local} from {remote}"),
            (Some(local), Some(_)) => write!(f, " from {local}"),
            (Some(local), None) => write!(f, " {local}"),
            (None, _) => Ok(()),
        }
    }
}
