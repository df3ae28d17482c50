//! The wire form of a socket address: one byte for the family (4 or 6), the address in network order,
//! the port in network order. No zone id, no flow label: 7 or 19 bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The length of the longest address.
pub const MAX_ADDRESS: usize = 19;

/// Writes an address in its wire form. Zone ids and flow labels are left out.
pub fn encode_address(address: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAX_ADDRESS);
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
    out.extend(address.port().to_be_bytes());
    out
}

/// Reads an address from its wire form, which must be exactly one address long.
pub fn decode_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port): (IpAddr, &[u8]) = match bytes {
        [4, rest @ ..] => {
            let (ip, port) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from_octets(*ip).into(), port)
        }
        [6, rest @ ..] => {
            let (ip, port) = rest.split_first_chunk::<16>()?;
            (Ipv6Addr::from_octets(*ip).into(), port)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(port.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in [
            "127.0.0.1:0",
            "255.255.255.255:65535",
            "[::1]:80",
            "[2001:db8::1]:443",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(decode_address(&encode_address(address)), Some(address));
        }
    }

    #[test]
    fn every_other_length_and_family_is_refused() {
        let v4 = encode_address("1.2.3.4:5".parse().unwrap());
        let v6 = encode_address("[::1]:5".parse().unwrap());
        for whole in [v4, v6] {
            for cut in 0..whole.len() {
                assert_eq!(decode_address(&whole[..cut]), None);
            }
            let mut long = whole.clone();
            long.push(0);
            assert_eq!(decode_address(&long), None);
            let mut other = whole;
            other[0] = 5;
            assert_eq!(decode_address(&other), None);
        }
    }
}
