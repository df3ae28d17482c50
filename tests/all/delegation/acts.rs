//! Taking a step: in the real thing and in the model.

use std::time::{Duration, Instant};

use refcap::ErrorCode;
use refcap_abi::Kind;

use super::actor::{self, METHOD_ECHO, METHOD_RELAY, PAYLOAD, SLOTS};
use super::choose::{Place, number};
use super::model::{Answer, CapId, ProgramId, What};
use super::network::{self, Asked, BIND, TCP};
use super::steps::{Act, Step};
use super::world::{Failed, World};
use crate::support::SOON;

/// How long a call may take that nobody will answer, and one that somebody will.
const SHORT: i32 = 3;
const LONG: i32 = 20_000;

impl World {
    pub(super) async fn step(&mut self, step: &Step) -> Result<(), Failed> {
        self.counts.steps += 1;
        self.trace.push(format!("{:?}", step.act));
        let [a, b, c, d, e, f] = step.numbers;
        match step.act {
            Act::Spawn => match self.holder_of(Kind::Spawner, a) {
                Some(by) => {
                    let program = if b % 3 == 0 { "pair" } else { "single" };
                    self.spawn(by, program, [c, d, e, f, a, b]).await
                }
                None => Ok(()),
            },
            Act::Derive => self.derive([a, b, c, d, e]).await,
            Act::Limit => self.limit([a, b, c]).await,
            Act::Revocable => self.revocable([a, b, c, d]).await,
            Act::Lease => self.lease([a, b, c]).await,
            Act::Object => self.object([a, b]).await,
            Act::Give => self.give([a, b, c]).await,
            Act::Fetch => self.fetch([a, b, c]).await,
            Act::Call => self.call([a, b]).await,
            Act::Relay => self.relay([a, b]).await,
            Act::Share => self.share([a, b, c, d]).await,
            Act::Revoke => self.revoke(a).await,
            Act::Close => self.close([a, b]).await,
            Act::Connect => self.connect([a, b, c]).await,
            Act::Bind => self.bind([a, b]).await,
            Act::Exit => self.exit([a, b]).await,
            Act::Stop => self.stop([a, b]).await,
            Act::HostDerive => self.host_derive([a, b, c, d]),
            Act::HostGrant => self.host_grant([a, b, c]).await,
            Act::HostNarrow => self.host_narrow([a, b, c]).await,
            Act::HostRevoke => self.host_revoke(a).await,
            Act::HostClose => self.host_close(a),
            Act::HostRevokeSpawner => self.host_revoke_spawner([a, b]).await,
            Act::Look => self.check().await,
        }
    }

    /// Puts what came of making something into a slot that the actor has cleared.
    pub(super) fn made(&mut self, program: ProgramId, to: usize, made: Answer<(CapId, What)>) {
        if let Ok((parent, what)) = made {
            self.model.put(program, to, Some(parent), what);
        }
    }

    // Deriving

    pub(super) async fn derive(&mut self, [a, b, c, d, e]: [u32; 5]) -> Result<(), Failed> {
        let Some((program, from)) = self.place_of(Kind::Net, a) else {
            return Ok(());
        };
        let to = self.room(program, b);
        let import = ["net_only", "net_only", "net_except", "net_exactly"][e as usize % 4];
        let asked = network::asked([c, d, e >> 2]);
        self.model.clear(program, to);
        let made = self.model.narrowed(import, program, from, &asked);
        let bytes = encoded(&asked)?;
        let arguments = [number(to), number(from), PAYLOAD, number(bytes.len())];
        self.order(program, import, &arguments, &bytes, made.map(|_| 0))
            .await?;
        self.made(program, to, made);
        Ok(())
    }

    pub(super) async fn limit(&mut self, [a, b, c]: [u32; 3]) -> Result<(), Failed> {
        let Some((program, from)) = self.place_of(Kind::Net, a) else {
            return Ok(());
        };
        let to = self.room(program, b);
        let (terms, no_derive, no_hand_over) = [
            ("no derive", true, false),
            ("no hand-over", false, true),
            ("label one; no derive; no hand-over", true, true),
            ("label two; limit lease 1h", false, false),
        ][c as usize % 4];
        self.model.clear(program, to);
        let made = self.model.limited(program, from, no_derive, no_hand_over);
        let arguments = [number(to), number(from), PAYLOAD, number(terms.len())];
        self.order(
            program,
            "net_limit",
            &arguments,
            terms.as_bytes(),
            made.map(|_| 0),
        )
        .await?;
        self.made(program, to, made);
        Ok(())
    }

    pub(super) async fn revocable(&mut self, [a, b, c, d]: [u32; 4]) -> Result<(), Failed> {
        let (kind, import) = match d % 3 {
            0 => (Kind::Object, "object_revocable"),
            _ => (Kind::Net, "net_revocable"),
        };
        let Some((program, from)) = self.place_of(kind, a) else {
            return Ok(());
        };
        let to = self.room(program, b);
        self.model.clear(program, to);
        // Another one, for what was cleared is free.
        let revoker = (1..SLOTS)
            .map(|n| 1 + (c as usize + n) % (SLOTS - 1))
            .find(|&slot| slot != to && self.model.look(program, slot).is_err());
        let Some(revoker) = revoker else {
            // Nothing is done but that the slot is given up.
            let arguments = [number(to), number(to), 0, 0];
            let nothing = Err(ErrorCode::NullReference);
            return self.order(program, "net_only", &arguments, &[], nothing).await;
        };
        self.make_revocable(program, import, [to, revoker, from]).await
    }

    pub(super) async fn make_revocable(
        &mut self,
        program: ProgramId,
        import: &str,
        [to, revoker, from]: [usize; 3],
    ) -> Result<(), Failed> {
        self.model.clear(program, revoker);
        let made = self.model.revocable(import, program, from);
        let arguments = [number(to), number(revoker), number(from)];
        self.order(program, import, &arguments, &[], made.map(|_| 0))
            .await?;
        if let Ok((parent, what)) = made {
            let target = self.model.put(program, to, Some(parent), what);
            self.model
                .put(program, revoker, Some(parent), What::Revoker(target));
        }
        Ok(())
    }

    /// A Net with a lease that is nearly over, one derived from it, and the end of both.
    pub(super) async fn lease(&mut self, [a, b, c]: [u32; 3]) -> Result<(), Failed> {
        let Some((program, from)) = self.holder_of(Kind::Net, a) else {
            return Ok(());
        };
        let leased = self.room(program, b);
        self.model.clear(program, leased);
        let made = self.model.limited(program, from, false, false);
        let terms = b"limit lease 20ms";
        let arguments = [number(leased), number(from), PAYLOAD, number(terms.len())];
        self.order(program, "net_limit", &arguments, terms, made.map(|_| 0))
            .await?;
        self.made(program, leased, made);
        let Ok((cap, _)) = self.model.net(program, leased) else {
            return Ok(());
        };
        let to = self.room(program, c);
        // Where everything is taken, the room would be that of the lease itself.
        if to != leased {
            self.derive_from_leased(program, to, leased).await?;
        }
        self.model.revoke(cap, ErrorCode::Expired);
        let begun = Instant::now();
        loop {
            match self.status(program, "cap_kind", &[number(leased)], &[]).await? {
                error if error == ErrorCode::Expired.status() => break,
                1 if begun.elapsed() < SOON => tokio::time::sleep(Duration::from_millis(1)).await,
                other => return Err(format!("a Net whose lease is over is still there: {other}")),
            }
        }
        self.check().await
    }

    async fn derive_from_leased(
        &mut self,
        program: ProgramId,
        to: usize,
        leased: usize,
    ) -> Result<(), Failed> {
        self.model.clear(program, to);
        let asked = network::asked([2, 0, 3]);
        let bytes = encoded(&asked)?;
        let arguments = [number(to), number(leased), PAYLOAD, number(bytes.len())];
        let derived = self.status(program, "net_only", &arguments, &bytes).await?;
        // Unless the machine was so slow that it is over already.
        if derived >= 0 {
            let made = self.model.narrowed("net_only", program, leased, &asked);
            self.made(program, to, made);
        }
        Ok(())
    }

    // Objects

    pub(super) async fn object(&mut self, [a, b]: [u32; 2]) -> Result<(), Failed> {
        let alive = self.alive();
        let program = alive[a as usize % alive.len()];
        let to = self.room(program, b);
        self.make_object(program, to).await
    }

    pub(super) async fn make_object(&mut self, program: ProgramId, to: usize) -> Result<(), Failed> {
        // Object 0 takes orders, 1 is the desk's.
        let new = 2 + number(self.model.objects.len());
        self.model.clear(program, to);
        self.order(program, "object_new", &[number(to), new], &[], Ok(0))
            .await?;
        self.model.put(program, to, None, What::Object(program, new));
        self.model.objects.push((program, new, false));
        Ok(())
    }

    /// Whom a call reaches, and how long it may take.
    pub(super) fn callee(&self, (program, object): Place) -> (Answer<(ProgramId, i32)>, i32) {
        let busy = [self.model.programs[program].vat];
        let callee = self.model.callee(program, object, &busy);
        let time = if callee == Err(ErrorCode::TimedOut) {
            SHORT
        } else {
            LONG
        };
        (callee, time)
    }

    pub(super) async fn give(&mut self, [a, b, c]: [u32; 3]) -> Result<(), Failed> {
        let Some((program, object)) = self.place_of(Kind::Object, a) else {
            return Ok(());
        };
        let slot = self.slot_to_hand(program, b);
        let (callee, _) = self.callee((program, object));
        let to = callee.map_or(1, |(callee, _)| self.room(callee, c));
        self.hand((program, object), slot, to).await
    }

    /// A program gives what is in a slot to who implements an object, who puts it into another slot.
    pub(super) async fn hand(
        &mut self,
        (program, object): Place,
        slot: usize,
        to: usize,
    ) -> Result<(), Failed> {
        let (_, time) = self.callee((program, object));
        let arguments = [number(object), number(slot), number(to), time];
        let given = self.model.hand_over(program, slot);
        // What was moved and could not be sent is lost; it may be what should have been called.
        let (callee, _) = self.callee((program, object));
        let expected = given.and(callee).map(|_| 0);
        self.order(program, "give", &arguments, &[], expected).await?;
        if let (Ok((cap, what)), Ok((callee, _))) = (given, callee) {
            self.counts.handed_over += 1;
            self.model.clear(callee, to);
            self.model.put(callee, to, cap, what);
        }
        Ok(())
    }

    pub(super) async fn fetch(&mut self, [a, b, c]: [u32; 3]) -> Result<(), Failed> {
        let Some((program, object)) = self.place_of(Kind::Object, a) else {
            return Ok(());
        };
        let (callee, time) = self.callee((program, object));
        let slot = callee.map_or(1, |(callee, _)| self.slot_to_hand(callee, b));
        let to = self.room(program, c);
        let arguments = [number(object), number(slot), number(to), time];
        let got = callee.and_then(|(callee, _)| self.model.hand_over(callee, slot));
        self.order(program, "fetch", &arguments, &[], got.map(|_| 0))
            .await?;
        if let Ok((cap, what)) = got {
            self.counts.handed_over += 1;
            self.model.clear(program, to);
            self.model.put(program, to, cap, what);
        }
        Ok(())
    }

    pub(super) async fn call(&mut self, [a, b]: [u32; 2]) -> Result<(), Failed> {
        let Some((program, object)) = self.place_of(Kind::Object, a) else {
            return Ok(());
        };
        let (callee, time) = self.callee((program, object));
        let arguments = [number(object), METHOD_ECHO, b.cast_signed(), 0, time];
        self.order(program, "call", &arguments, &[], callee.map(|(_, number)| number))
            .await
    }

    pub(super) async fn relay(&mut self, [a, b]: [u32; 2]) -> Result<(), Failed> {
        let Some((program, object)) = self.place_of(Kind::Object, a) else {
            return Ok(());
        };
        let (callee, time) = self.callee((program, object));
        let mut slot = 1;
        let answer = callee.and_then(|(callee, _)| {
            let objects = (1..SLOTS).filter(|&slot| self.kind(callee, slot) == Some(Kind::Object));
            let objects: Vec<_> = objects.collect();
            slot = match objects.get(b as usize % objects.len().max(1)) {
                Some(&slot) => slot,
                None => self.any_slot(callee, b),
            };
            let busy = [program, callee].map(|program| self.model.programs[program].vat);
            self.model.callee(callee, slot, &busy).map(|(_, number)| number)
        });
        let second = if answer == Err(ErrorCode::TimedOut) {
            SHORT
        } else {
            LONG
        };
        let arguments = [number(object), METHOD_RELAY, number(slot), second, time];
        self.order(program, "call", &arguments, &[], answer).await
    }

    /// Within a vat a reference goes from one program to the other, and stays the same capability.
    pub(super) async fn share(&mut self, [a, b, c, d]: [u32; 4]) -> Result<(), Failed> {
        let bodies = self.alive().into_iter().filter_map(|program| {
            let wing = self.actors[program].beside?.ok()?;
            Some((program, wing))
        });
        let bodies: Vec<_> = bodies.collect();
        let Some(&(body, wing)) = bodies.get(a as usize % bodies.len().max(1)) else {
            return Ok(());
        };
        let (operation, from, to) = match b % 2 {
            0 => ("share", body, wing),
            _ => ("borrow", wing, body),
        };
        let (slot, place) = (self.any_slot(from, c), self.room(to, d));
        let cap = self.model.programs[from].slots[slot];
        self.model.clear(to, place);
        let arguments = [number(slot), number(place)];
        self.order(body, operation, &arguments, &[], Ok(0)).await?;
        self.model.programs[to].slots[place] = cap;
        self.counts.handed_over += 1;
        Ok(())
    }

    // Revoking

    pub(super) async fn revoke(&mut self, a: u32) -> Result<(), Failed> {
        let useful = |&(program, slot): &Place| match self.model.what(program, slot) {
            Ok(What::Revoker(target)) => self.model.is_there(target),
            _ => false,
        };
        let places = (0..8).filter_map(|n| self.place_of(Kind::Revoker, a.wrapping_add(n * 0x1357)));
        let places: Vec<_> = places.collect();
        let place = places.iter().find(|place| useful(place)).or(places.first());
        let Some(&(program, slot)) = place else {
            return Ok(());
        };
        let ended = match self.model.what(program, slot) {
            Ok(What::Revoker(target)) => Ok(self.model.revoke(target, ErrorCode::Revoked)),
            Ok(_) => Err(ErrorCode::WrongKind),
            Err(error) => Err(error),
        };
        let held = ended.map(|(held, _)| held);
        self.order(program, "revoker_revoke", &[number(slot)], &[], held)
            .await?;
        let Ok(ended) = ended else { return Ok(()) };
        self.has_revoked(ended);
        self.check().await
    }

    pub(super) fn has_revoked(&mut self, (held, vats): (i32, usize)) {
        self.counts.revocations += 1;
        self.counts.ended += u64::from(held.unsigned_abs());
        self.counts.across += u64::from(vats > 1);
    }

    // Sockets

    pub(super) async fn connect(&mut self, [a, b, c]: [u32; 3]) -> Result<(), Failed> {
        let Some((program, from)) = self.place_of(Kind::Net, a) else {
            return Ok(());
        };
        // Not every system has a second address of its own.
        let tuples = if cfg!(target_os = "linux") { TCP } else { TCP / 2 };
        // As often as not to where somebody takes connections.
        let tuples = if c % 2 == 0 { 2 } else { tuples };
        let (to, tuple) = (self.room(program, b), c as usize / 2 % tuples);
        self.model.clear(program, to);
        let made = self.model.net(program, from).and_then(|(cap, tuples)| {
            if tuples & 1 << tuple == 0 {
                return Err(ErrorCode::Denied);
            }
            match network::is_open(tuple) {
                true => Ok((cap, What::Stream(tuple))),
                false => Err(ErrorCode::ConnectionRefused),
            }
        });
        let arguments = [number(to), number(from), actor::address_at(tuple), 7, 0];
        self.order(program, "net_connect", &arguments, &[], made.map(|_| 0))
            .await?;
        self.counts.connections += u64::from(made.is_ok());
        self.made(program, to, made);
        Ok(())
    }

    pub(super) async fn bind(&mut self, [a, b]: [u32; 2]) -> Result<(), Failed> {
        let Some((program, from)) = self.place_of(Kind::Net, a) else {
            return Ok(());
        };
        let to = self.room(program, b);
        self.model.clear(program, to);
        let made = self
            .model
            .net(program, from)
            .and_then(|(cap, tuples)| match tuples & 1 << BIND {
                0 => Err(ErrorCode::Denied),
                _ => Ok((cap, What::Udp(tuples))),
            });
        let arguments = [number(to), number(from), actor::LOCAL, 7];
        self.order(program, "net_bind_udp", &arguments, &[], made.map(|_| 0))
            .await?;
        self.made(program, to, made);
        Ok(())
    }
}

/// The binary form of a rule.
fn encoded(asked: &Asked) -> Result<Vec<u8>, Failed> {
    let rules = refcap_authority::Rules::parse(&asked.rules);
    rules
        .map(|rules| rules.encode())
        .map_err(|error| error.to_string())
}
