//! The URLs that can be fetched: `http://`, an address, a port and a path.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};

/// A page's place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// Where to connect.
    pub(crate) address: SocketAddr,
    /// The host as it was written, for the request's `Host` field.
    pub(crate) host: String,
    /// The path and the query.
    pub(crate) path: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Url> {
        let Some(rest) = text.strip_prefix("http://") else {
            bail!("only http:// URLs are supported");
        };
        // The path goes into the request as it is, so nothing in it may end the line.
        if let Some(bad) = rest.chars().find(|c| !c.is_ascii_graphic()) {
            bail!("the URL contains {bad:?}, which must be percent-encoded");
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if host.contains('@') {
            bail!("a user in the URL is not supported");
        }
        let path = match path {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        Ok(Url {
            address: address(host)?,
            host: host.to_owned(),
            path,
        })
    }
}

fn address(host: &str) -> anyhow::Result<SocketAddr> {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip: IpAddr = bare
        .unwrap_or(host)
        .parse()
        .with_context(|| format!("`{host}` is not an IP address with or without a port"))?;
    Ok(SocketAddr::new(ip, 80))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_an_address_and_a_path() {
        for (text, address, path) in [
            ("http://127.0.0.1:8000/a?b", "127.0.0.1:8000", "/a?b"),
            ("http://127.0.0.1", "127.0.0.1:80", "/"),
            ("http://127.0.0.1?b", "127.0.0.1:80", "/?b"),
            ("http://[::1]/a#part", "[::1]:80", "/a"),
            ("http://[::1]:81/", "[::1]:81", "/"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(
                (url.address.to_string().as_str(), url.path.as_str()),
                (address, path)
            );
        }
    }

    #[test]
    fn other_urls_are_errors() {
        for (text, part) in [
            ("https://127.0.0.1/", "only http://"),
            ("127.0.0.1", "only http://"),
            ("http://example.com/", "not an IP address"),
            ("http://127.0.0.1:99999/", "not an IP address"),
            ("http://a@127.0.0.1/", "a user"),
            ("http://127.0.0.1/a b", "percent-encoded"),
            ("http://127.0.0.1/\r\nX: y", "percent-encoded"),
            ("http:///", "not an IP address"),
        ] {
            let error = format!("{:#}", Url::parse(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
