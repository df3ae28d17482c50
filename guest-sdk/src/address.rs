//! What can be said for an address to connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use refcap_abi::ErrorCode;

use crate::{Error, Result};

/// Something that is an IP address and a port: `SocketAddr` and its parts, and strings such as
/// `"127.0.0.1:80"` and `"[::1]:80"`.
///
/// Unlike `std::net::ToSocketAddrs`, a string that holds a host name is an error: whoever may look up
/// any name can tell the world anything through the names that it asks for, so that looking names up is
/// not something that every holder of a `Net` can do.
pub trait ToAddress {
    /// The address.
    fn to_address(&self) -> Result<SocketAddr>;
}

impl ToAddress for SocketAddr {
    fn to_address(&self) -> Result<SocketAddr> {
        match self {
            SocketAddr::V6(address) if address.scope_id() != 0 => Err(bad_address(format!(
                "`{address}` has a zone, and a capability cannot say in which zone it holds"
            ))),
            _ => Ok(*self),
        }
    }
}

impl ToAddress for str {
    fn to_address(&self) -> Result<SocketAddr> {
        match self.parse::<SocketAddr>() {
            Ok(address) => address.to_address(),
            Err(_) => Err(not_an_address(self)),
        }
    }
}

impl ToAddress for (&str, u16) {
    fn to_address(&self) -> Result<SocketAddr> {
        let (host, port) = self;
        match host.parse::<IpAddr>() {
            Ok(ip) => Ok(SocketAddr::new(ip, *port)),
            Err(_) => Err(not_an_address(&format!("{host}:{port}"))),
        }
    }
}

impl ToAddress for String {
    fn to_address(&self) -> Result<SocketAddr> {
        self.as_str().to_address()
    }
}

impl<T: ToAddress + ?Sized> ToAddress for &T {
    fn to_address(&self) -> Result<SocketAddr> {
        T::to_address(self)
    }
}

macro_rules! to_address_by_from {
    ($($from:ty),+) => {
        $(impl ToAddress for $from {
            fn to_address(&self) -> Result<SocketAddr> {
                SocketAddr::from(*self).to_address()
            }
        })+
    };
}

to_address_by_from!(
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

fn not_an_address(text: &str) -> Error {
    bad_address(match text.rsplit_once(':') {
        Some((host, port)) if looks_like_name(host) && port.parse::<u16>().is_ok() => format!(
            "`{host}` is a host name; connect takes an IP address and a port: a `Net` does not look names up"
        ),
        _ => format!("`{text}` is not an IP address and a port, such as 127.0.0.1:80 or [::1]:80"),
    })
}

fn looks_like_name(host: &str) -> bool {
    host.chars().any(char::is_alphabetic) && host.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
}

fn bad_address(message: String) -> Error {
    Error::new(ErrorCode::BadArgument, "read the address", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_an_address_is_the_same() {
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let ip = Ipv4Addr::LOCALHOST;
        assert_eq!("127.0.0.1:80".to_address(), Ok(address));
        assert_eq!(String::from("127.0.0.1:80").to_address(), Ok(address));
        assert_eq!(("127.0.0.1", 80).to_address(), Ok(address));
        assert_eq!((ip, 80).to_address(), Ok(address));
        assert_eq!((IpAddr::from(ip), 80).to_address(), Ok(address));
        assert_eq!(SocketAddrV4::new(ip, 80).to_address(), Ok(address));
        assert_eq!((&&address).to_address(), Ok(address));
        let v6 = "[::1]:80".parse().unwrap();
        assert_eq!(("::1", 80).to_address(), Ok(v6));
        assert_eq!((Ipv6Addr::LOCALHOST, 80).to_address(), Ok(v6));
        assert_eq!("[::1]:80".to_address(), Ok(v6));
    }

    #[test]
    fn what_is_no_address_says_what_it_is() {
        let message = |address: &dyn ToAddress| address.to_address().unwrap_err().to_string();
        assert_eq!(
            message(&"example.com:80"),
            "read the address: `example.com` is a host name; connect takes an IP address and a port: \
             a `Net` does not look names up"
        );
        assert!(message(&("localhost", 80)).contains("is a host name"));
        for text in [
            "127.0.0.1",
            "127.0.0.1:",
            "127.1:80",
            "0x7f.0.0.1:65536",
            "::1:80",
            "",
            ":80",
        ] {
            assert!(
                message(&text).contains("is not an IP address and a port"),
                "{text}"
            );
        }
        assert!(message(&"[fe80::1%2]:80").contains("has a zone"));
    }
}
