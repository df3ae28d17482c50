//! What a program is asked when it implements a Net (`object_as_net`): as calls of its object, by methods of
//! these numbers. It answers a request with the one capability that was asked for, or with an error.

use std::net::SocketAddr;

use crate::Kind;
use crate::wire::{decode_address, encode_address};

/// What is asked of the program that implements a Net. The Net allows it; nobody has done anything yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetRequest<'a> {
    /// A connection to an address, from a local end where the holder chose one. Answered with a TcpStream, whatever
    /// it is connected to.
    Connect {
        /// Where to.
        remote: SocketAddr,
        /// Where from.
        local: Option<SocketAddr>,
    },
    /// A listener. Answered with a TcpListener.
    Listen {
        /// Where.
        local: SocketAddr,
        /// How many connections may wait; 0 for a default.
        backlog: u32,
    },
    /// A datagram socket. Answered with a UdpSocket.
    BindUdp {
        /// Where.
        local: SocketAddr,
    },
    /// A name, to be connected to at a port. Answered with a Name for that name and port.
    Resolve {
        /// The name, in its one spelling.
        name: &'a str,
        /// The port.
        port: u16,
    },
}

impl<'a> NetRequest<'a> {
    /// The number of the method. The program's own methods should have others.
    pub const fn method(&self) -> i32 {
        match self {
            NetRequest::Connect { .. } => 0x4e65_7401,
            NetRequest::Listen { .. } => 0x4e65_7402,
            NetRequest::BindUdp { .. } => 0x4e65_7403,
            NetRequest::Resolve { .. } => 0x4e65_7404,
        }
    }

    /// What it is answered with.
    pub const fn answer(&self) -> Kind {
        match self {
            NetRequest::Connect { .. } => Kind::TcpStream,
            NetRequest::Listen { .. } => Kind::TcpListener,
            NetRequest::BindUdp { .. } => Kind::UdpSocket,
            NetRequest::Resolve { .. } => Kind::Name,
        }
    }

    /// The bytes of the message: addresses in their wire form, one after the other; numbers little-endian, before
    /// what they go with.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            NetRequest::Connect { remote, local } => {
                let local = local.map(encode_address).unwrap_or_default();
                [encode_address(*remote), local].concat()
            }
            NetRequest::Listen { local, backlog } => {
                [&backlog.to_le_bytes()[..], &encode_address(*local)].concat()
            }
            NetRequest::BindUdp { local } => encode_address(*local),
            NetRequest::Resolve { name, port } => [&port.to_le_bytes()[..], name.as_bytes()].concat(),
        }
    }

    /// Reads a message. `None` where the method is another one, or the bytes are not such a message.
    pub fn decode(method: i32, bytes: &'a [u8]) -> Option<NetRequest<'a>> {
        let request = match method {
            0x4e65_7401 => {
                let length = match bytes.first()? {
                    4 => 7,
                    _ => 19,
                };
                let (remote, local) = bytes.split_at_checked(length)?;
                NetRequest::Connect {
                    remote: decode_address(remote)?,
                    local: match local {
                        [] => None,
                        local => Some(decode_address(local)?),
                    },
                }
            }
            0x4e65_7402 => {
                let (backlog, local) = bytes.split_first_chunk()?;
                NetRequest::Listen {
                    local: decode_address(local)?,
                    backlog: u32::from_le_bytes(*backlog),
                }
            }
            0x4e65_7403 => NetRequest::BindUdp {
                local: decode_address(bytes)?,
            },
            0x4e65_7404 => {
                let (port, name) = bytes.split_first_chunk()?;
                NetRequest::Resolve {
                    name: std::str::from_utf8(name).ok()?,
                    port: u16::from_le_bytes(*port),
                }
            }
            _ => return None,
        };
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<NetRequest<'static>> {
        let [four, six]: [SocketAddr; 2] = ["127.0.0.1:80", "[::1]:443"].map(|text| text.parse().unwrap());
        vec![
            NetRequest::Connect {
                remote: four,
                local: None,
            },
            NetRequest::Connect {
                remote: four,
                local: Some(four),
            },
            NetRequest::Connect {
                remote: six,
                local: Some(six),
            },
            NetRequest::Listen {
                local: six,
                backlog: 0x0102_0304,
            },
            NetRequest::BindUdp { local: four },
            NetRequest::Resolve {
                name: "example.com",
                port: 443,
            },
        ]
    }

    #[test]
    fn requests_come_back() {
        for request in requests() {
            assert_eq!(
                NetRequest::decode(request.method(), &request.encode()),
                Some(request)
            );
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for request in requests() {
            let bytes = request.encode();
            assert_eq!(NetRequest::decode(0, &bytes), None);
            assert_eq!(NetRequest::decode(request.method(), &[]), None);
            if !matches!(request, NetRequest::Resolve { .. }) {
                let cut = &bytes[..bytes.len() - 1];
                assert_eq!(NetRequest::decode(request.method(), cut), None, "{request:?}");
                let more = [&bytes[..], &[0]].concat();
                assert_eq!(NetRequest::decode(request.method(), &more), None, "{request:?}");
            }
        }
        let not_text = NetRequest::decode(0x4e65_7404, &[80, 0, 0xff]);
        assert_eq!(not_text, None);
    }
}
