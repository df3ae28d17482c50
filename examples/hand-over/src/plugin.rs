//! Imagine that someone else wrote this.

use std::io::{self, Read};
use std::net::SocketAddr;

use anyhow::ensure;
use refcap_guest::{Net, Result, TcpStream};

/// Code that needs a service on the network.
pub(crate) struct Plugin {
    net: Net,
    connection: Option<TcpStream>,
}

impl Plugin {
    /// All that the plugin can do is in what it is given here.
    pub(crate) fn new(net: Net) -> Plugin {
        Plugin {
            net,
            connection: None,
        }
    }

    /// What it is for: it uses a service.
    pub(crate) fn work(&mut self, service: SocketAddr) -> Result<()> {
        self.connection = Some(self.net.connect(service)?);
        println!("plugin: connected to {service}");
        Ok(())
    }

    pub(crate) fn read(&mut self) -> io::Result<usize> {
        match &mut self.connection {
            Some(connection) => connection.read(&mut [0; 64]),
            None => Ok(0),
        }
    }

    /// What it is not for: it looks around. Being able to is an error.
    pub(crate) fn try_more(&self) -> anyhow::Result<()> {
        // Another service on the same machine, one in the local network, the cloud's metadata service.
        for elsewhere in ["127.0.0.1:1", "10.0.0.1:80", "169.254.169.254:80"] {
            match self.net.connect(elsewhere) {
                Ok(_) => anyhow::bail!("reached {elsewhere}"),
                Err(error) => println!("plugin: {error}"),
            }
            ensure!(!self.net.allows(format!("connect tcp {elsewhere}"))?);
        }
        // Asking for everything gives what there is, or an error, but not everything.
        let all = self.net.only("connect tcp *:*")?;
        println!("plugin: only everything: `{}`", all.describe()?);
        ensure!(all.describe()? == self.net.describe()?);
        match self.net.exactly("connect tcp *:*") {
            Ok(_) => anyhow::bail!("got everything"),
            Err(error) => println!("plugin: {error}"),
        }
        Ok(())
    }
}
