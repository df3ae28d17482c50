//! The real thing beside the model: two families of programs, ordered by the test, and all that is looked at.

use std::collections::HashMap;
use std::time::Instant;

use refcap::{Authority, Capability, Limits, RunError, SpawnerTerms, Vat, VatHandle, ambient_authority};
use refcap_abi::{ErrorCode, Kind};

use super::actor::{self, ARGUMENTS, BEGUN, FOUND, LOST, ORDER_WORDS, SLOTS, USE};
use super::model::{Answer, CapId, DEPTH, Model, ProgramId, VatId, What};
use super::network::{self, ALL, TCP, TUPLES};
use super::operations;
use super::steps::Numbers;
use crate::support::{SOON, authority, net};

/// Why a sequence failed.
pub(super) type Failed = String;

/// What was done in how many sequences.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) sequences: u64,
    pub(super) steps: u64,
    pub(super) orders: u64,
    pub(super) programs: u64,
    pub(super) vats: u64,
    /// Operations of the network and other uses that were tried, by what came of them.
    pub(super) allowed: u64,
    pub(super) refused: u64,
    /// Capabilities that were handed over, by object calls, as endowments and within a vat.
    pub(super) handed_over: u64,
    pub(super) revocations: u64,
    pub(super) ended: u64,
    /// Revocations that ended something in several vats.
    pub(super) across: u64,
    /// Programs that ended before their sequence did.
    pub(super) exits: u64,
    pub(super) connections: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Counts) {
        self.sequences += other.sequences;
        self.steps += other.steps;
        self.orders += other.orders;
        self.programs += other.programs;
        self.vats += other.vats;
        self.allowed += other.allowed;
        self.refused += other.refused;
        self.handed_over += other.handed_over;
        self.revocations += other.revocations;
        self.ended += other.ended;
        self.across += other.across;
        self.exits += other.exits;
        self.connections += other.connections;
    }
}

/// A desk, which the embedder started, and what came from it.
pub(super) struct Family {
    /// Until it is taken down.
    pub(super) vat: Option<Vat>,
    pub(super) handle: VatHandle,
    /// How many programs have said that they are there.
    came: i32,
}

/// Where a program of the model is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Actor {
    pub(super) family: usize,
    /// Its place among those that the desk orders; less than zero for the desk.
    command: i32,
    /// The other program of its vat: `Ok` is its wing, `Err` whose wing it is.
    pub(super) beside: Option<Result<ProgramId, ProgramId>>,
}

pub(super) struct World {
    pub(super) model: Model,
    pub(super) families: Vec<Family>,
    pub(super) actors: Vec<Actor>,
    /// What the embedder holds: the roots first, of which the first are Nets.
    pub(super) hosts: Vec<(Option<Capability>, CapId)>,
    pub(super) numbers: Numbers,
    pub(super) counts: Counts,
    pub(super) trace: Vec<String>,
}

/// How many of the embedder's capabilities are Nets from nothing; as many Spawners follow.
pub(super) const ROOTS: usize = 2;

impl World {
    /// Two desks with a Net that both have, one each, and a Spawner each.
    pub(super) async fn start(seed: u64) -> Result<World, Failed> {
        let mut world = World {
            model: Model::default(),
            families: Vec::new(),
            actors: Vec::new(),
            hosts: Vec::new(),
            // Not those of its steps.
            numbers: Numbers::of(!seed),
            counts: Counts::default(),
            trace: Vec::new(),
        };
        for _ in 0..ROOTS {
            let cap = world.model.add(None, net_of(ALL), None);
            world.hosts.push((Some(net(&network::rules(ALL))), cap));
        }
        for _ in 0..ROOTS {
            let cap = world.model.add(None, What::Spawner, None);
            let terms = SpawnerTerms::new()
                .program("single", actor::single())
                .program("pair", actor::pair())
                .depth(u32::try_from(DEPTH).unwrap_or_default())
                .children(64)
                .most(plenty());
            let spawner = Capability::spawner("spawner", terms, ambient_authority());
            world
                .hosts
                .push((Some(spawner.map_err(|error| error.to_string())?), cap));
        }
        for family in 0..2 {
            world.start_desk(family).await?;
        }
        Ok(world)
    }

    async fn start_desk(&mut self, family: usize) -> Result<(), Failed> {
        let grants = [("net", 0), ("more", 1), ("spawner", ROOTS + family)];
        let mut vat = actor::single().vat().limits(plenty());
        let id = self.model.add_vat(None);
        let desk = self.model.add_program(id);
        for (name, host) in grants {
            let (capability, cap) = &self.hosts[host];
            vat = vat.grant(name, capability.as_ref().ok_or("the embedder holds its roots")?);
            let (cap, what) = (*cap, self.model.caps[*cap].what);
            self.model.put(desk, endowment(name), Some(cap), what);
        }
        let mut vat = vat.start().await.map_err(|error| error.to_string())?;
        let handle = vat.handle();
        let opened = vat.call_export("open", &[]).await;
        opened.map_err(|error| error.to_string())?;
        self.families.push(Family {
            vat: Some(vat),
            handle,
            came: 0,
        });
        self.actors.push(Actor {
            family,
            command: -1,
            beside: None,
        });
        self.counts.programs += 1;
        self.counts.vats += 1;
        Ok(())
    }

    /// A program of a family is there that was not: where its orders go is told in the order in which they come.
    pub(super) async fn greet(&mut self, family: usize, vat: VatId, with_wing: bool) -> Result<(), Failed> {
        let body = self.model.add_program(vat);
        let wing = with_wing.then(|| self.model.add_program(vat));
        for (program, beside) in [(Some(body), wing.map(Ok)), (wing, Some(Err(body)))] {
            if program.is_some() {
                let command = self.families[family].came;
                self.families[family].came += 1;
                self.actors.push(Actor {
                    family,
                    command,
                    beside,
                });
                self.counts.programs += 1;
            }
        }
        self.counts.vats += 1;
        let came = self.families[family].came;
        match self.desk(family, "greet", &[came]).await? {
            0 => Ok(()),
            lost => Err(format!("a program that was started did not come: {lost}")),
        }
    }

    /// Calls a desk.
    async fn desk(&mut self, family: usize, export: &str, arguments: &[i32]) -> Result<i32, Failed> {
        let vat = self.families[family].vat.as_mut().ok_or("the desk is gone")?;
        match vat.call_export(export, arguments).await {
            Ok(result) => Ok(result.unwrap_or_default()),
            Err(error) => Err(format!("the desk's {export}: {error}")),
        }
    }

    fn words(&self, program: ProgramId, operation: &str, arguments: &[i32], bytes: &[u8]) -> Vec<i32> {
        let mut words = vec![0; 1 + ORDER_WORDS];
        words[0] = self.actors[program].command;
        words[1] = operations::operation(operation);
        words[2..2 + arguments.len()].copy_from_slice(arguments);
        for (index, chunk) in bytes.chunks(4).enumerate() {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            words[2 + ARGUMENTS + index] = i32::from_le_bytes(word);
        }
        words
    }

    /// Orders a program to do something, and returns the status.
    pub(super) async fn status(
        &mut self,
        program: ProgramId,
        operation: &str,
        arguments: &[i32],
        bytes: &[u8],
    ) -> Result<i32, Failed> {
        self.counts.orders += 1;
        let words = self.words(program, operation, arguments, bytes);
        let status = self.desk(self.actors[program].family, "order", &words).await?;
        match operation {
            "word" => Ok(status),
            _ if status > LOST => Ok(status),
            _ => Err(format!(
                "program {program} was ordered `{operation}` and did not answer: {status}"
            )),
        }
    }

    /// Orders a program to do something of which the model says what comes of it.
    pub(super) async fn order(
        &mut self,
        program: ProgramId,
        operation: &str,
        arguments: &[i32],
        bytes: &[u8],
        expected: Answer<i32>,
    ) -> Result<(), Failed> {
        let status = self.status(program, operation, arguments, bytes).await?;
        let real = match status {
            0.. => Ok(status),
            _ => Err(ErrorCode::from_code(status).ok_or(format!("{operation} returned {status}"))?),
        };
        self.trace.push(format!(
            "    program {program}: {operation}{arguments:?} -> {real:?}"
        ));
        match real {
            Ok(_) => self.counts.allowed += 1,
            Err(_) => self.counts.refused += 1,
        }
        if real == expected {
            return Ok(());
        }
        Err(format!(
            "program {program}: {operation}{arguments:?} gave {real:?}, and the model says {expected:?}"
        ))
    }

    /// Hands an order over of which nothing is heard.
    pub(super) async fn send(&mut self, program: ProgramId, operation: &str) -> Result<(), Failed> {
        self.trace.push(format!("    program {program}: {operation}"));
        let words = self.words(program, operation, &[7], &[]);
        match self.desk(self.actors[program].family, "send", &words).await? {
            // A trap comes before the answer only where the order is carried out in the call.
            0 => Ok(()),
            lost => Err(format!("program {program} did not take `{operation}`: {lost}")),
        }
    }

    /// Ends a desk, as the embedder can or by itself.
    pub(super) async fn end_desk(&mut self, family: usize, how: u32) -> Result<(), Failed> {
        let desk = self.desk_of(family);
        let words = |operation| self.words(desk, operation, &[7], &[]);
        let (traps, exits) = (words("trap"), words("exit"));
        let mut vat = self.families[family].vat.take().ok_or("the desk is gone")?;
        let as_said = match how % 3 {
            0 => true,
            1 => matches!(vat.call_export("order", &traps).await, Err(RunError::Trap { .. })),
            _ => matches!(vat.call_export("order", &exits).await, Ok(Some(7))),
        };
        drop(vat);
        self.trace.push(format!("    desk {family} ends ({})", how % 3));
        self.model.end(self.model.programs[desk].vat);
        let handle = self.families[family].handle.clone();
        until("a desk's children are gone", || handle.children() == 0).await?;
        match as_said {
            true => Ok(()),
            false => Err(format!("desk {family} did not end as it should ({})", how % 3)),
        }
    }

    pub(super) fn desk_of(&self, family: usize) -> ProgramId {
        let is_it = |actor: &Actor| actor.family == family && actor.command < 0;
        self.actors.iter().position(is_it).unwrap_or_default()
    }

    /// Waits until these vats are gone, with all that they started: who calls them hears so.
    pub(super) async fn gone(&mut self, vats: &[VatId]) -> Result<(), Failed> {
        for program in 0..self.actors.len() {
            let is_new = vats.contains(&self.model.programs[program].vat);
            let Actor { family, command, .. } = self.actors[program];
            if !is_new || self.families[family].vat.is_none() {
                continue;
            }
            self.counts.exits += 1;
            let begun = Instant::now();
            loop {
                match self.desk(family, "ping", &[command]).await? {
                    0 if begun.elapsed() < SOON => tokio::task::yield_now().await,
                    0 => return Err(format!("program {program} has ended and still answers")),
                    -29 => break,
                    other => {
                        return Err(format!(
                            "a call of program {program}, which has ended, gave {other}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    // Looking at everything

    /// Every slot of every program is tried, and the embedder's view compared.
    pub(super) async fn check(&mut self) -> Result<(), Failed> {
        for program in 0..self.actors.len() {
            if self.model.is_alive(program) {
                self.check_program(program).await?;
            }
        }
        // What a vat was told of it has read by now.
        for program in 0..self.actors.len() {
            if self.model.is_alive(program) {
                let expected = self.model.forgotten(program);
                self.order(program, "forgotten", &[], &[], Ok(expected)).await?;
                self.trace.pop();
            }
        }
        self.check_lineages()
    }

    async fn check_program(&mut self, program: ProgramId) -> Result<(), Failed> {
        // Rarely where somebody listens: connections that were made are remembered by the system for a while.
        let tuple = match self.numbers.below(16) {
            0 => self.numbers.below(TCP as u32) as usize,
            _ => 2 + self.numbers.below(TCP as u32 - 2) as usize,
        };
        let mut expected = [0; SLOTS];
        for (slot, word) in expected.iter_mut().enumerate().skip(1) {
            *word = self.expected(program, slot, tuple);
        }
        let bytes: Vec<u8> = expected.iter().flat_map(|word| word.to_le_bytes()).collect();
        let argument = i32::try_from(tuple).unwrap_or_default();
        let wrong = self.status(program, "check", &[argument], &bytes).await?;
        if wrong == 0 {
            return Ok(());
        }
        let slot = usize::try_from(wrong).unwrap_or_default();
        let real = self.status(program, "word", &[FOUND + 4 * wrong], &[]).await?;
        Err(format!(
            "program {program}, slot {slot}: found {}, and the model says {} ({:?}); tried was {}",
            Word(real),
            Word(expected[slot]),
            self.model.what(program, slot),
            network::query(tuple)
        ))
    }

    /// What using a slot in every way must give, as the actor puts it into a word.
    fn expected(&mut self, program: ProgramId, slot: usize, tuple: usize) -> i32 {
        let what = match self.model.what(program, slot) {
            Ok(what) => what,
            Err(error) => {
                self.counts.refused += 1;
                return error.status();
            }
        };
        let status = |answer: Answer<i32>| USE + answer.unwrap_or_else(ErrorCode::status);
        let vat = self.model.programs[program].vat;
        let (allowed, word) = match what {
            What::Net { tuples, .. } => {
                let begun = if tuples & 1 << tuple == 0 { 0 } else { BEGUN };
                let word = tuples.cast_signed() | begun;
                self.counts.refused += u64::from((TUPLES as u32 + 1) - word.count_ones());
                (u64::from(word.count_ones()), word)
            }
            What::Udp(tuples) => {
                let word = (tuples & network::UDP_TUPLES).cast_signed();
                self.counts.refused += TCP as u64 - u64::from(word.count_ones());
                (u64::from(word.count_ones()), word)
            }
            What::Stream(_) => (1, status(Err(ErrorCode::WouldBlock))),
            What::Object(..) => {
                let answer = self.model.callee(program, slot, &[vat]);
                (1, status(answer.map(|(_, number)| number)))
            }
            What::Spawner if self.model.vats[vat].generation >= DEPTH => {
                (0, status(Err(ErrorCode::LimitReached)))
            }
            What::Spawner => (1, status(Ok(0))),
            What::Child(child) if self.model.vats[child].alive => (1, status(Err(ErrorCode::TimedOut))),
            What::Child(_) => (1, status(Ok(1))),
            What::Revoker(_) => (1, status(Ok(0))),
        };
        self.counts.allowed += allowed;
        what.kind().code() << 24 | word
    }

    /// What the embedder sees below its roots is what is held there, and it allows what the model says.
    pub(super) fn check_lineages(&self) -> Result<(), Failed> {
        for (root, cap) in &self.hosts[..2 * ROOTS] {
            let Some(root) = root else { continue };
            let mut real = Vec::new();
            for info in root.lineage().iter().filter(|info| info.held) {
                let tuples = match (&info.authority, info.kind) {
                    (Some(authority), Kind::Net) => Some(tuples_of(authority)?),
                    _ => None,
                };
                real.push((info.kind, tuples));
            }
            let caps = self
                .model
                .subtree(*cap)
                .into_iter()
                .map(|cap| &self.model.caps[cap]);
            let mut model: Vec<_> = caps
                .filter(|cap| cap.is_held())
                .map(|cap| match cap.what {
                    What::Net { tuples, .. } => (Kind::Net, Some(tuples)),
                    what => (what.kind(), None),
                })
                .collect();
            real.sort_unstable();
            model.sort_unstable();
            if real != model {
                return Err(format!(
                    "below {root:?} the embedder sees {real:?}, and the model has {model:?}"
                ));
            }
        }
        Ok(())
    }
}

/// The slot of an endowment.
pub(super) fn endowment(name: &str) -> usize {
    let names = ["home", "net", "more", "object", "revoker", "spawner"];
    names.iter().position(|other| *other == name).unwrap_or_default()
}

pub(super) fn net_of(tuples: u32) -> What {
    What::Net {
        tuples,
        derivable: true,
        transferable: true,
    }
}

/// Limits that no sequence reaches.
fn plenty() -> Limits {
    Limits::default().capabilities(100_000).sockets(4_000)
}

/// What an authority allows of the tuples. An error when it allows anything else.
fn tuples_of(real: &Authority) -> Result<u32, Failed> {
    thread_local! {
        static KNOWN: std::cell::RefCell<HashMap<u32, Authority>> = std::cell::RefCell::default();
        static QUERIES: Vec<refcap_authority::Query> =
            (0..TUPLES).filter_map(|tuple| network::query(tuple).parse().ok()).collect();
    }
    let tuples = QUERIES.with(|queries| {
        let allowed = queries.iter().enumerate().filter(|(_, query)| real.allows(query));
        allowed.fold(0, |tuples, (tuple, _)| tuples | 1 << tuple)
    });
    let is_all = KNOWN.with_borrow_mut(|known| {
        *real
            == *known
                .entry(tuples)
                .or_insert_with(|| authority(&network::rules(tuples)))
    });
    match is_all {
        true => Ok(tuples),
        false => Err(format!("an authority allows more than there is: {real}")),
    }
}

/// Waits for something that happens by itself.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) -> Result<(), Failed> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > SOON {
            return Err(format!("it did not happen that {what}"));
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// What an actor found in a slot.
struct Word(i32);

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let &Word(word) = self;
        if word < 0 {
            return match ErrorCode::from_code(word) {
                Some(error) => write!(f, "{error:?}"),
                None => write!(f, "{word}"),
            };
        }
        match Kind::from_code(word >> 24) {
            Some(kind @ (Kind::Net | Kind::UdpSocket)) => write!(f, "{kind} {:#x}", word & 0xff_ffff),
            Some(kind) => write!(f, "{kind} {}", (word & 0xff_ffff) - USE),
            None => write!(f, "{word:#x}"),
        }
    }
}
