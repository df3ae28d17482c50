//! Resolvers whose answers a test decides.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use refcap::{Answer, DnsName, Lookup, ResolveError, Resolver};

/// Answers from a list, one after the other; the last one stays. Remembers what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    answers: Mutex<HashMap<String, Vec<Reply>>>,
    asked: Mutex<Vec<String>>,
}

/// What a look-up comes to.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Addresses(Vec<IpAddr>, Duration),
    Fails(ResolveError),
    Never,
}

impl Scripted {
    pub(crate) fn new(script: &[(&str, &[Reply])]) -> Arc<Scripted> {
        let resolver = Scripted::default();
        for (name, replies) in script {
            let mut replies = replies.to_vec();
            replies.reverse();
            resolver
                .answers
                .lock()
                .unwrap()
                .insert((*name).to_owned(), replies);
        }
        Arc::new(resolver)
    }

    /// The names that were asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Addresses that are good for a minute.
pub(crate) fn addresses(list: &[&str]) -> Reply {
    lasting(list, Duration::from_secs(60))
}

/// Addresses that are good for that long.
pub(crate) fn lasting(list: &[&str], time: Duration) -> Reply {
    Reply::Addresses(
        list.iter().map(|address| address.parse().unwrap()).collect(),
        time,
    )
}

impl Resolver for Scripted {
    fn resolve<'a>(&'a self, name: &'a DnsName) -> Lookup<'a> {
        self.asked.lock().unwrap().push(name.to_string());
        let reply = {
            let mut answers = self.answers.lock().unwrap();
            match answers.get_mut(name.as_str()) {
                None => Reply::Fails(ResolveError::NotFound),
                Some(replies) if replies.len() == 1 => replies[0].clone(),
                Some(replies) => replies.pop().unwrap(),
            }
        };
        Box::pin(async move {
            match reply {
                Reply::Addresses(addresses, valid_for) => Ok(Answer { addresses, valid_for }),
                Reply::Fails(error) => Err(error),
                Reply::Never => std::future::pending().await,
            }
        })
    }
}
