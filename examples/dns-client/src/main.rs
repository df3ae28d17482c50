//! Asks a DNS server for the addresses of a name, by UDP.
//!
//! ```text
//! cargo xtask guests
//! refcap run target/guests/release/dns-client.wasm \
//!     --grant net='bind udp *:0; send udp 8.8.8.8:53; receive udp *:* from 8.8.8.8:53' \
//!     -- 8.8.8.8:53 example.com AAAA
//! ```
//!
//! A program that resolves names itself has no use for the host's resolver, and needs authority over
//! datagrams: each that it sends and each that it gets is checked by the host. With these rules it can be
//! answered by nobody but the server that it may ask; with wider ones it looks itself who answers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use refcap_guest::{ErrorCode, Net, UdpSocket};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};

/// How often the question is sent, and how long each time the answer is waited for.
const ATTEMPTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(2);

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (server, name, kind) = match &arguments[..] {
        [server, name] => (server, name, "A"),
        [server, name, kind] => (server, name, kind.as_str()),
        _ => bail!("usage: dns-client SERVER:PORT NAME [A|AAAA]"),
    };
    let server: SocketAddr = server
        .parse()
        .with_context(|| format!("`{server}` is not an address and a port"))?;
    let kind = match kind {
        "A" => TYPE::A,
        "AAAA" => TYPE::AAAA,
        other => bail!("`{other}` is neither A nor AAAA"),
    };
    for address in ask(&net, server, name, kind)? {
        println!("{address}");
    }
    Ok(())
}

/// Asks, and asks again when there is no answer.
fn ask(net: &Net, server: SocketAddr, name: &str, kind: TYPE) -> anyhow::Result<Vec<IpAddr>> {
    let any = match server {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let socket = net.bind_udp(any)?;
    for _ in 0..ATTEMPTS {
        // Another number each time, so that a late answer is not taken for this one.
        let id = RandomState::new().build_hasher().finish() as u16;
        socket.send_to(&question(id, name, kind)?, server)?;
        if let Some(addresses) = wait_for_answer(&socket, server, id, name, kind)? {
            return Ok(addresses);
        }
    }
    bail!("{server} does not answer");
}

fn question(id: u16, name: &str, kind: TYPE) -> anyhow::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).with_context(|| format!("`{name}` is not a DNS name"))?;
    packet
        .questions
        .push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    Ok(packet.build_bytes_vec()?)
}

/// The server's answer with that number; `None` when there is none in time.
fn wait_for_answer(
    socket: &UdpSocket,
    server: SocketAddr,
    id: u16,
    name: &str,
    kind: TYPE,
) -> anyhow::Result<Option<Vec<IpAddr>>> {
    let mut buffer = [0; 4096];
    let begun = Instant::now();
    loop {
        // Whatever else comes gives the answer no more time.
        let patience = PATIENCE.saturating_sub(begun.elapsed());
        if patience.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(patience))?;
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.code() == ErrorCode::TimedOut => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // What is no answer to this question is nothing to stop for.
        match Packet::parse(&buffer[..length]) {
            Ok(packet) if from == server && packet.id() == id && packet.has_flags(PacketFlag::RESPONSE) => {
                return addresses(&packet, name, kind).map(Some);
            }
            _ => {}
        }
    }
}

fn addresses(packet: &Packet<'_>, name: &str, kind: TYPE) -> anyhow::Result<Vec<IpAddr>> {
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => bail!("there is no {name}"),
        other => bail!("the server says {other:?}"),
    }
    let addresses: Vec<IpAddr> = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::A(a) if kind == TYPE::A => Some(IpAddr::from(a.address.to_be_bytes())),
            RData::AAAA(aaaa) if kind == TYPE::AAAA => Some(IpAddr::from(aaaa.address.to_be_bytes())),
            _ => None,
        })
        .collect();
    if addresses.is_empty() {
        bail!("{name} has no {kind:?} address");
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as StdSocket;

    use refcap_guest::testing;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::A;

    use super::*;

    /// Answers one question, after some packets that are no answer to it.
    fn serve(code: RCODE, answers: Vec<u32>) -> SocketAddr {
        let socket = StdSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let query = Packet::parse(&buffer[..length]).unwrap();
            let name = query.questions[0].qname.clone();
            let reply = |id| {
                let mut reply = Packet::new_reply(id);
                *reply.rcode_mut() = code;
                reply.answers = answers
                    .iter()
                    .map(|&address| ResourceRecord::new(name.clone(), CLASS::IN, 60, RData::A(A { address })))
                    .collect();
                reply.build_bytes_vec().unwrap()
            };
            let stranger = StdSocket::bind("127.0.0.1:0").unwrap();
            let mut forged = Packet::new_reply(query.id());
            *forged.rcode_mut() = RCODE::Refused;
            stranger
                .send_to(&forged.build_bytes_vec().unwrap(), from)
                .unwrap();
            socket.send_to(b"nonsense", from).unwrap();
            socket.send_to(&reply(query.id().wrapping_add(1)), from).unwrap();
            socket.send_to(&buffer[..length], from).unwrap();
            socket.send_to(&reply(query.id()), from).unwrap();
        });
        address
    }

    /// It lets anybody answer, so that the client has to look who does.
    fn net(server: SocketAddr) -> Net {
        testing::net(format!(
            "bind udp 0.0.0.0:0; send udp {server}; receive udp 0.0.0.0:* from 127.0.0.1"
        ))
    }

    #[test]
    fn the_answer_is_told_from_what_is_none() {
        let server = serve(RCODE::NoError, vec![0xc000_0201, 0xc000_0202]);
        let addresses = ask(&net(server), server, "example.com", TYPE::A).unwrap();
        assert_eq!(
            addresses,
            ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap())
        );
    }

    #[test]
    fn each_refusal_is_told() {
        for (code, message) in [
            (RCODE::NameError, "there is no example.com"),
            (RCODE::ServerFailure, "the server says ServerFailure"),
            (RCODE::NoError, "example.com has no A address"),
        ] {
            let server = serve(code, vec![]);
            let error = ask(&net(server), server, "example.com", TYPE::A).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
