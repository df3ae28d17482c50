//! Membranes: all that crosses one, in either direction and at any time, ends when it is cut.

use refcap::{ErrorCode, Membrane, SpawnerTerms};
use refcap_abi::WAIT_READ;
use tokio::io::AsyncReadExt;

use crate::children::reader;
use crate::support::servers::Silent;
use crate::support::{Puppet, net, soon};

/// Slots of the puppet: a membrane; an object that sends back what it is sent, one that keeps it, and one that gives
/// what it has; and what these two have.
const MEMBRANE: i32 = 4;
const BACK: i32 = 5;
const KEEPS: i32 = 6;
const GIVES: i32 = 7;
const KEPT: i32 = 8;
const GIVEN: i32 = 9;
/// What sends back, keeps and gives behind the membrane.
const WRAPPED_BACK: i32 = 10;
const WRAPPED_KEEPS: i32 = 11;
const WRAPPED_GIVES: i32 = 12;

const SENDS_BACK: i32 = 1;
const KEEP: i32 = 2;
const GIVE: i32 = 3;

async fn guest(net: &refcap::Capability) -> Puppet {
    let mut guest = Puppet::start(net).await;
    guest.call("membrane_new", &[MEMBRANE]).await.unwrap();
    for (object, wrapped, number) in [
        (BACK, WRAPPED_BACK, 0),
        (KEEPS, WRAPPED_KEEPS, KEPT),
        (GIVES, WRAPPED_GIVES, GIVEN),
    ] {
        guest.call("object_new", &[object, number]).await.unwrap();
        guest.wrap(wrapped, object).await.unwrap();
    }
    guest
}

impl Puppet {
    async fn wrap(&mut self, new: i32, old: i32) -> Result<i32, ErrorCode> {
        self.call("membrane_wrap", &[new, MEMBRANE, old]).await
    }

    async fn cut(&mut self) -> Result<i32, ErrorCode> {
        self.call("membrane_cut", &[MEMBRANE]).await
    }

    /// Sends what is in a slot along with a call.
    async fn send(&mut self, object: i32, method: i32, slot: i32) -> Result<i32, ErrorCode> {
        self.call("message_attach", &[slot]).await?;
        self.call("object_call", &[object, method, 0, 0, 0]).await
    }

    /// Calls an object, and takes what comes back.
    async fn fetch(&mut self, object: i32, new: i32) -> Result<i32, ErrorCode> {
        self.call("object_call", &[object, GIVE, 0, 0, 0]).await?;
        self.call("message_take", &[new, 0]).await
    }

    async fn is(&mut self, slot: i32) -> Result<i32, ErrorCode> {
        self.call("cap_kind", &[slot]).await
    }
}

#[tokio::test]
async fn what_is_wrapped_ends_with_all_that_came_from_it_when_the_membrane_is_cut() {
    let mut server = Silent::start().await;
    let net = net("connect tcp 127.0.0.1:*");
    let mut guest = guest(&net).await;
    guest.wrap(2, 1).await.unwrap();
    guest.only(3, 2, "connect tcp 127.0.0.1:*").await.unwrap();
    guest.connect(15, 3, server.address).await.unwrap();
    guest.connect(16, 1, server.address).await.unwrap();
    let (mut theirs, _) = soon(server.next()).await;
    // The wrapped Net, the derived one, the connection, and the three objects.
    assert_eq!(guest.cut().await, Ok(6));
    assert_eq!(soon(theirs.read(&mut [0])).await.unwrap_or(0), 0);
    for slot in [2, 3, 15, WRAPPED_BACK, WRAPPED_KEEPS, WRAPPED_GIVES] {
        assert_eq!(guest.is(slot).await, Err(ErrorCode::Revoked), "slot {slot}");
    }
    for slot in [1, 16, BACK, KEEPS, GIVES, MEMBRANE] {
        assert!(guest.is(slot).await.is_ok(), "slot {slot}");
    }
    assert_eq!(guest.cut().await, Ok(0));
    assert_eq!(guest.wrap(2, 1).await, Err(ErrorCode::Revoked));
    assert_eq!(guest.error_message().await, "the membrane was cut");
    assert!(guest.is(1).await.is_ok());
}

#[tokio::test]
async fn what_goes_along_with_a_call_and_what_comes_back_crosses() {
    let mut server = Silent::start().await;
    let net = net("connect tcp 127.0.0.1:*");
    let mut guest = guest(&net).await;
    // In: a Net, which the callee keeps.
    guest.only(2, 1, "connect tcp 127.0.0.1:*").await.unwrap();
    guest.send(WRAPPED_KEEPS, KEEP, 2).await.unwrap();
    guest.connect(15, KEPT, server.address).await.unwrap();
    // Out: a connection, which moves.
    guest.connect(GIVEN, 1, server.address).await.unwrap();
    guest.fetch(WRAPPED_GIVES, 16).await.unwrap();
    guest.write_stream(16, b"hello").await.unwrap();
    // Past the membrane.
    guest.connect(GIVEN, 1, server.address).await.unwrap();
    guest.fetch(GIVES, 17).await.unwrap();
    let (mut first, _) = soon(server.next()).await;
    let (mut second, _) = soon(server.next()).await;
    let mut hello = [0; 5];
    soon(second.read_exact(&mut hello)).await.unwrap();
    guest.cut().await.unwrap();
    for stream in [&mut first, &mut second] {
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap_or(0), 0);
    }
    for slot in [KEPT, 15, 16] {
        assert_eq!(guest.is(slot).await, Err(ErrorCode::Revoked), "slot {slot}");
    }
    // What was sent in is alive on its own side, and so is what never crossed.
    guest.connect(15, 2, server.address).await.unwrap();
    guest.write_stream(17, b"hello").await.unwrap();
}

#[tokio::test]
async fn what_goes_through_an_object_that_crossed_crosses_too() {
    let net = net("connect tcp 127.0.0.1:*");
    let mut guest = guest(&net).await;
    // An object of this side crosses, and the other side calls it: with a Net, and for one.
    for (object, kept) in [(KEEPS, 18), (GIVES, 19)] {
        guest.send(WRAPPED_KEEPS, KEEP, object).await.unwrap();
        guest.raw("copy", &[kept, KEPT]).await;
    }
    guest.only(2, 1, "connect tcp 127.0.0.1:*").await.unwrap();
    guest.send(18, KEEP, 2).await.unwrap();
    guest.only(GIVEN, 1, "connect tcp 127.0.0.1:*").await.unwrap();
    guest.fetch(19, 3).await.unwrap();
    // And once more, through the same object that comes back.
    guest.raw("copy", &[15, BACK]).await;
    guest.through(WRAPPED_BACK, 15).await.unwrap();
    guest.only(16, 1, "connect tcp 127.0.0.1:*").await.unwrap();
    guest.through(15, 16).await.unwrap();
    for slot in [KEPT, 3, 15, 16] {
        assert!(guest.is(slot).await.is_ok(), "slot {slot}");
    }
    guest.cut().await.unwrap();
    for slot in [KEPT, 3, 15, 16] {
        assert_eq!(guest.is(slot).await, Err(ErrorCode::Revoked), "slot {slot}");
    }
    assert!(guest.is(2).await.is_ok());
    assert_eq!(
        guest
            .call("object_call", &[WRAPPED_BACK, SENDS_BACK, 0, 0, 0])
            .await,
        Err(ErrorCode::Revoked)
    );
}

#[tokio::test]
async fn of_several_membranes_each_ends_what_is_behind_it() {
    let net = net("connect tcp 127.0.0.1:*");
    for first in [MEMBRANE, 15] {
        let mut guest = guest(&net).await;
        guest.call("membrane_new", &[15]).await.unwrap();
        guest
            .call("membrane_wrap", &[16, 15, WRAPPED_KEEPS])
            .await
            .unwrap();
        guest.only(2, 1, "connect tcp 127.0.0.1:*").await.unwrap();
        guest.send(16, KEEP, 2).await.unwrap();
        assert!(guest.is(KEPT).await.is_ok());
        guest.call("membrane_cut", &[first]).await.unwrap();
        assert_eq!(guest.is(KEPT).await, Err(ErrorCode::Revoked));
        assert_eq!(guest.is(WRAPPED_KEEPS).await.is_ok(), first == 15);
    }
    let mut guest = guest(&net).await;
    let mut made = 1;
    let refused = loop {
        guest.call("membrane_new", &[15]).await.unwrap();
        let wrapped = guest
            .call("membrane_wrap", &[WRAPPED_BACK, 15, WRAPPED_BACK])
            .await;
        match wrapped {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((refused, made), (ErrorCode::LimitReached, 8));
    assert_eq!(
        guest.error_message().await,
        "the limit of 8 membranes around one object is reached"
    );
}

#[tokio::test]
async fn what_can_cross_is_what_can_be_handed_over() {
    let mut guest = guest(&net("")).await;
    guest.call("poller_new", &[2]).await.unwrap();
    assert_eq!(guest.wrap(3, 2).await, Err(ErrorCode::NotTransferable));
    guest.limit(2, 1, "no hand-over").await.unwrap();
    assert_eq!(guest.wrap(3, 2).await, Err(ErrorCode::NotTransferable));
    assert_eq!(
        guest.call("membrane_wrap", &[3, 1, 1]).await,
        Err(ErrorCode::WrongKind)
    );
    assert_eq!(guest.call("membrane_cut", &[1]).await, Err(ErrorCode::WrongKind));
    // A membrane can be handed on, and whoever gets it can cut it.
    guest.through(BACK, MEMBRANE).await.unwrap();
    assert_eq!(guest.cut().await, Ok(3));
}

#[tokio::test]
async fn closing_a_membrane_cuts_nothing_and_what_crossed_leaves_nothing_behind() {
    let net = net("connect tcp 127.0.0.1:*");
    let mut guest = guest(&net).await;
    for _ in 0..100 {
        guest.wrap(2, 1).await.unwrap();
        guest.only(3, 2, "connect tcp 127.0.0.1:*").await.unwrap();
        guest.close(2).await.unwrap();
        guest.close(3).await.unwrap();
    }
    // The embedder's, and the endowment.
    assert_eq!(net.lineage().len(), 2);
    guest.wrap(2, 1).await.unwrap();
    guest.close(MEMBRANE).await.unwrap();
    assert!(guest.is(2).await.is_ok());
    assert!(guest.is(WRAPPED_BACK).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedder_cuts_what_it_granted_and_what_programs_gave_each_other_through_it() {
    let mut server = Silent::start().await;
    let net = net("connect tcp 127.0.0.1:*");
    let membrane = Membrane::new("partner");
    let wrapped = membrane.wrap(&net).unwrap();
    let program = reader(server.address);
    let vats = [&wrapped, &net].map(|net| program.vat().grant("net", net).start());
    let [inside, outside] = vats.map(|vat| tokio::spawn(async { vat.await.unwrap().run().await }));
    let (first, second) = (soon(server.next()).await, soon(server.next()).await);
    // The wrapped one, the grant, and the connection.
    assert_eq!(membrane.cut(), 3);
    let revoked = soon(inside).await.unwrap().unwrap().code;
    assert_eq!(revoked, ErrorCode::Revoked.status());
    assert_eq!(membrane.cut(), 0);
    assert!(membrane.wrap(&net).is_err());
    drop((first, second));
    assert_eq!(soon(outside).await.unwrap().unwrap().code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_loses_what_it_was_given_through_a_membrane() {
    let mut server = Silent::start().await;
    let terms = SpawnerTerms::new().program("next", &reader(server.address));
    let spawner = refcap::Capability::spawner("spawner", terms, refcap::ambient_authority()).unwrap();
    let mut guest = guest(&net("connect tcp 127.0.0.1:*")).await;
    guest.handle().grant("spawner", &spawner);
    guest.take(15, "spawner").await.unwrap();
    guest.wrap(2, 1).await.unwrap();
    guest
        .with_text("spawner_program", &[16, 15], "next")
        .await
        .unwrap();
    guest.with_text("child_grant", &[16, 2], "net").await.unwrap();
    guest.call("child_start", &[16]).await.unwrap();
    let (mut theirs, _) = soon(server.next()).await;
    guest.cut().await.unwrap();
    assert_eq!(soon(theirs.read(&mut [0])).await.unwrap_or(0), 0);
    let ended = soon(guest.call("child_wait", &[16, 0, 64, 0])).await;
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(
        guest.call("socket_wait", &[2, WAIT_READ, 1]).await,
        Err(ErrorCode::Revoked)
    );
}
