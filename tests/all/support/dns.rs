//! A real DNS server on loopback, whose answers change as a test says.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;

/// One record of an answer: whose, what, and for how many seconds.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    Address(&'static str, &'static str, u32),
    Alias(&'static str, &'static str, u32),
}

/// What the server does with a question.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    Answers(Vec<Record>),
    AnswersAfter(Duration, Vec<Record>),
    NothingOfTheSort,
    Fails,
    StaysSilent,
}

/// A running server. Each look-up of a name (its A and AAAA questions are one) takes the next of its doings;
/// the last one stays.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Dns {
    pub(crate) async fn start(script: Vec<Does>) -> Dns {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            let mut questions_for_a = 0;
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let question = buffer[..length].to_vec();
                let (name, kind, end) = read_question(&question);
                heard.lock().unwrap().push(format!("{name} {kind}"));
                let turn = if kind == A {
                    questions_for_a
                } else {
                    questions_for_a.max(1) - 1
                };
                questions_for_a += usize::from(kind == A);
                let does = script[turn.min(script.len() - 1)].clone();
                let socket = socket.clone();
                tokio::spawn(async move {
                    let answer = match does {
                        Does::Answers(records) => reply(&question[..end], kind, 0, &records),
                        Does::AnswersAfter(time, records) => {
                            tokio::time::sleep(time).await;
                            reply(&question[..end], kind, 0, &records)
                        }
                        Does::NothingOfTheSort => reply(&question[..end], kind, 3, &[]),
                        Does::Fails => reply(&question[..end], kind, 2, &[]),
                        Does::StaysSilent => return,
                    };
                    let _ = socket.send_to(&answer, from).await;
                });
            }
        });
        Dns { address, asked }
    }

    /// The questions so far, with their kinds.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// The name, the kind, and where the question ends.
fn read_question(bytes: &[u8]) -> (String, u16, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while bytes[at] != 0 {
        let length = usize::from(bytes[at]);
        labels.push(String::from_utf8(bytes[at + 1..][..length].to_vec()).unwrap());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]);
    (labels.join("."), kind, at + 5)
}

fn reply(question: &[u8], kind: u16, code: u8, records: &[Record]) -> Vec<u8> {
    let fitting: Vec<_> = records
        .iter()
        .filter(|record| match record {
            Record::Address(_, address, _) => {
                address.parse::<IpAddr>().unwrap().is_ipv4() == (kind == A) && matches!(kind, A | AAAA)
            }
            Record::Alias(..) => true,
        })
        .collect();
    let mut out = question[..2].to_vec();
    // A response; recursion was desired and is available.
    out.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::try_from(fitting.len()).unwrap(),
        0,
        0,
        0,
        0,
    ]);
    out.extend(&question[12..]);
    for record in fitting {
        let (owner, kind, ttl, data) = match record {
            Record::Address(owner, address, ttl) => match address.parse().unwrap() {
                IpAddr::V4(address) => (owner, A, ttl, address.octets().to_vec()),
                IpAddr::V6(address) => (owner, AAAA, ttl, address.octets().to_vec()),
            },
            Record::Alias(owner, target, ttl) => (owner, CNAME, ttl, encode_name(target)),
        };
        out.extend(encode_name(owner));
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ttl.to_be_bytes());
        out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    out
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.bytes());
    }
    out.push(0);
    out
}
