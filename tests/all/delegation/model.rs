//! What must be true, said as simply as possible: capabilities are numbers with a parent, authority is a set of bits, who
//! holds what is a table. It knows nothing of lineages with links, letters, doors or messages.

use refcap_abi::{ErrorCode, Kind};

use super::actor::SLOTS;
use super::network::{Asked, BIND};

pub(super) type CapId = usize;
pub(super) type VatId = usize;
pub(super) type ProgramId = usize;

/// How many programs may be started by one another in a row.
pub(super) const DEPTH: usize = 3;

/// What a capability is a capability to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Net {
        tuples: u32,
        derivable: bool,
        transferable: bool,
    },
    /// One connection, and the tuple that it is.
    Stream(usize),
    /// A datagram socket, and what its Net allows.
    Udp(u32),
    Revoker(CapId),
    /// What a program implements under a number.
    Object(ProgramId, i32),
    Spawner,
    /// The program of that vat.
    Child(VatId),
}

impl What {
    pub(super) fn kind(self) -> Kind {
        match self {
            What::Net { .. } => Kind::Net,
            What::Stream(_) => Kind::TcpStream,
            What::Udp(_) => Kind::UdpSocket,
            What::Revoker(_) => Kind::Revoker,
            What::Object(..) => Kind::Object,
            What::Spawner => Kind::Spawner,
            What::Child(_) => Kind::Child,
        }
    }
}

/// One capability in somebody's hand.
#[derive(Debug, Clone)]
pub(super) struct Cap {
    parent: Option<CapId>,
    pub(super) what: What,
    /// The embedder, or a vat.
    pub(super) holder: Option<VatId>,
    /// Its holder gave it up, moved it away, or is gone.
    closed: bool,
    /// It was moved away, and what is left in the slot can be given up once.
    moved: bool,
    /// It was revoked, or its lease is over.
    ended: Option<ErrorCode>,
}

impl Cap {
    pub(super) fn is_held(&self) -> bool {
        !self.closed && self.ended.is_none()
    }
}

/// What has limits and an end of its own.
#[derive(Debug, Clone)]
pub(super) struct Vat {
    pub(super) alive: bool,
    parent: Option<VatId>,
    /// How many programs are above it.
    pub(super) generation: usize,
}

/// What has slots: the program that is run in a vat, or its wing.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) vat: VatId,
    pub(super) slots: [Option<CapId>; SLOTS],
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) caps: Vec<Cap>,
    pub(super) vats: Vec<Vat>,
    pub(super) programs: Vec<Program>,
    /// Every object that was made, and whether its program was told that nobody holds it any more.
    pub(super) objects: Vec<(ProgramId, i32, bool)>,
}

pub(super) type Answer<T = ()> = Result<T, ErrorCode>;

impl Model {
    // Programs

    pub(super) fn add_vat(&mut self, parent: Option<VatId>) -> VatId {
        let generation = parent.map_or(0, |parent| self.vats[parent].generation + 1);
        self.vats.push(Vat {
            alive: true,
            parent,
            generation,
        });
        self.vats.len() - 1
    }

    pub(super) fn add_program(&mut self, vat: VatId) -> ProgramId {
        self.programs.push(Program {
            vat,
            slots: [None; SLOTS],
        });
        self.programs.len() - 1
    }

    pub(super) fn is_alive(&self, program: ProgramId) -> bool {
        self.vats[self.programs[program].vat].alive
    }

    /// A vat ends, and what it started with it: what they hold is given up.
    pub(super) fn end(&mut self, vat: VatId) {
        if !std::mem::replace(&mut self.vats[vat].alive, false) {
            return;
        }
        for cap in 0..self.caps.len() {
            if self.caps[cap].holder == Some(vat) {
                self.caps[cap].closed = true;
            }
        }
        for below in 0..self.vats.len() {
            if self.vats[below].parent == Some(vat) {
                self.end(below);
            }
        }
    }

    /// The programs of a vat, the one that is run first.
    pub(super) fn programs_of(&self, vat: VatId) -> impl Iterator<Item = ProgramId> + '_ {
        (0..self.programs.len()).filter(move |&program| self.programs[program].vat == vat)
    }

    /// How many that a vat started are alive.
    pub(super) fn children(&self, vat: VatId) -> usize {
        let children = self.vats.iter().filter(|other| other.parent == Some(vat));
        children.filter(|other| other.alive).count()
    }

    // Looking

    /// The capability in a slot, if it is of use.
    pub(super) fn look(&self, program: ProgramId, slot: usize) -> Answer<CapId> {
        let id = self.programs[program].slots[slot].ok_or(ErrorCode::NullReference)?;
        match &self.caps[id] {
            Cap { closed: true, .. } => Err(ErrorCode::Closed),
            Cap {
                ended: Some(error), ..
            } => Err(*error),
            _ => Ok(id),
        }
    }

    pub(super) fn what(&self, program: ProgramId, slot: usize) -> Answer<What> {
        self.look(program, slot).map(|id| self.caps[id].what)
    }

    /// A Net, and what it allows.
    pub(super) fn net(&self, program: ProgramId, slot: usize) -> Answer<(CapId, u32)> {
        let id = self.look(program, slot)?;
        match self.caps[id].what {
            What::Net { tuples, .. } => Ok((id, tuples)),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// Whether it is in the lineage, held or not.
    pub(super) fn is_there(&self, cap: CapId) -> bool {
        self.caps[cap].ended.is_none()
    }

    /// Whether somebody has a Revoker that ends it.
    pub(super) fn is_lent(&self, cap: CapId) -> bool {
        self.caps.iter().any(|revoker| match revoker.what {
            What::Revoker(target) => revoker.is_held() && self.descends(cap, target),
            _ => false,
        })
    }

    fn descends(&self, mut cap: CapId, from: CapId) -> bool {
        loop {
            if cap == from {
                return true;
            }
            match self.caps[cap].parent {
                Some(parent) => cap = parent,
                None => return false,
            }
        }
    }

    pub(super) fn subtree(&self, from: CapId) -> Vec<CapId> {
        let below = |cap: &CapId| self.descends(*cap, from);
        (0..self.caps.len()).filter(below).collect()
    }

    /// Who is called by an object in a slot, while these vats are in the middle of something. Those of the caller's own
    /// vat are always called.
    pub(super) fn callee(&self, program: ProgramId, slot: usize, busy: &[VatId]) -> Answer<(ProgramId, i32)> {
        match self.what(program, slot)? {
            What::Object(implementer, number) => {
                let (here, there) = (self.programs[program].vat, self.programs[implementer].vat);
                match self.vats[there].alive {
                    false => Err(ErrorCode::CalleeFailed),
                    true if here != there && busy.contains(&there) => Err(ErrorCode::TimedOut),
                    true => Ok((implementer, number)),
                }
            }
            _ => Err(ErrorCode::WrongKind),
        }
    }

    // Changing

    pub(super) fn add(&mut self, parent: Option<CapId>, what: What, holder: Option<VatId>) -> CapId {
        self.caps.push(Cap {
            parent,
            what,
            holder,
            closed: false,
            moved: false,
            ended: None,
        });
        self.caps.len() - 1
    }

    /// Puts a new capability into a slot, which was cleared before.
    pub(super) fn put(
        &mut self,
        program: ProgramId,
        slot: usize,
        parent: Option<CapId>,
        what: What,
    ) -> CapId {
        let id = self.add(parent, what, Some(self.programs[program].vat));
        self.programs[program].slots[slot] = Some(id);
        id
    }

    /// Gives up what is in a slot, and makes it null. Returns the vat that ends with it.
    pub(super) fn clear(&mut self, program: ProgramId, slot: usize) -> Option<VatId> {
        let ends = self.close(program, slot).ok().flatten();
        self.programs[program].slots[slot] = None;
        ends
    }

    /// Gives up what is in a slot. Returns the vat that ends with it.
    pub(super) fn close(&mut self, program: ProgramId, slot: usize) -> Answer<Option<VatId>> {
        let id = self.programs[program].slots[slot].ok_or(ErrorCode::NullReference)?;
        let Cap {
            closed, ended, what, ..
        } = self.caps[id];
        if std::mem::take(&mut self.caps[id].moved) {
            return Ok(None);
        }
        if closed {
            return Err(ErrorCode::Closed);
        }
        self.caps[id].closed = true;
        match (ended, what) {
            (Some(ErrorCode::Revoked), _) => Err(ErrorCode::Revoked),
            (None, What::Child(vat)) => {
                let alive = self.vats[vat].alive;
                self.end(vat);
                Ok(alive.then_some(vat))
            }
            _ => Ok(None),
        }
    }

    /// The embedder gives one of its own up.
    pub(super) fn give_up(&mut self, cap: CapId) {
        self.caps[cap].closed = true;
    }

    /// Ends a capability with all that came from it. Returns how many somebody held, and in how many vats.
    pub(super) fn revoke(&mut self, from: CapId, how: ErrorCode) -> (i32, usize) {
        let mut held = 0;
        let (mut holders, mut stopped) = (Vec::new(), Vec::new());
        for id in self.subtree(from) {
            if self.caps[id].ended.is_some() {
                continue;
            }
            if self.caps[id].is_held() {
                held += 1;
                holders.extend(self.caps[id].holder);
                if let What::Child(vat) = self.caps[id].what
                    && self.vats[vat].alive
                {
                    stopped.push(vat);
                }
            }
            self.caps[id].ended = Some(how);
        }
        for vat in stopped {
            self.end(vat);
        }
        holders.sort_unstable();
        holders.dedup();
        (held, holders.len())
    }

    /// Takes tuples away from a capability and all that came from it; sockets that could not be made any more end.
    pub(super) fn narrow(&mut self, from: CapId, bound: u32) -> Answer {
        if self.caps[from].ended.is_some() {
            return Err(ErrorCode::Revoked);
        }
        for id in self.subtree(from) {
            let cap = &mut self.caps[id];
            match &mut cap.what {
                What::Net { tuples, .. } => *tuples &= bound,
                What::Udp(tuples) => {
                    *tuples &= bound;
                    if *tuples & 1 << BIND == 0 && cap.ended.is_none() {
                        cap.ended = Some(ErrorCode::Revoked);
                    }
                }
                What::Stream(tuple) if bound & 1 << *tuple == 0 && cap.ended.is_none() => {
                    cap.ended = Some(ErrorCode::Revoked);
                }
                _ => {}
            }
        }
        Ok(())
    }

    // Deriving

    fn derivable(&self, program: ProgramId, slot: usize) -> Answer<(CapId, What, u32)> {
        let (id, tuples) = self.net(program, slot)?;
        match self.caps[id].what {
            What::Net { derivable: false, .. } => Err(ErrorCode::NotDerivable),
            what => Ok((id, what, tuples)),
        }
    }

    /// What deriving by rules gives.
    pub(super) fn narrowed(
        &self,
        import: &str,
        program: ProgramId,
        slot: usize,
        asked: &Asked,
    ) -> Answer<(CapId, What)> {
        let (id, what, tuples) = self.derivable(program, slot)?;
        let less = match import {
            "net_only" => tuples & asked.tuples,
            "net_except" => tuples & !asked.tuples,
            _ if asked.is_wild || asked.tuples & !tuples != 0 => return Err(ErrorCode::NotSubset),
            _ => asked.tuples,
        };
        let What::Net {
            derivable,
            transferable,
            ..
        } = what
        else {
            return Err(ErrorCode::WrongKind);
        };
        let what = What::Net {
            tuples: less,
            derivable,
            transferable,
        };
        Ok((id, what))
    }

    /// What deriving on terms gives.
    pub(super) fn limited(
        &self,
        program: ProgramId,
        slot: usize,
        no_derive: bool,
        no_hand_over: bool,
    ) -> Answer<(CapId, What)> {
        match self.derivable(program, slot)? {
            (
                id,
                What::Net {
                    tuples,
                    derivable,
                    transferable,
                },
                _,
            ) => {
                let what = What::Net {
                    tuples,
                    derivable: derivable && !no_derive,
                    transferable: transferable && !no_hand_over,
                };
                Ok((id, what))
            }
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// What can be taken back: by the import for its kind.
    pub(super) fn revocable(&self, import: &str, program: ProgramId, slot: usize) -> Answer<(CapId, What)> {
        match import {
            "net_revocable" => self.derivable(program, slot).map(|(id, what, _)| (id, what)),
            _ => match self.what(program, slot)? {
                what @ What::Object(..) => Ok((self.look(program, slot)?, what)),
                _ => Err(ErrorCode::WrongKind),
            },
        }
    }

    // Handing over

    /// Gives a capability out of a program's hands: what the other one will get, and what it comes from.
    pub(super) fn hand_over(&mut self, program: ProgramId, slot: usize) -> Answer<(Option<CapId>, What)> {
        let id = self.look(program, slot)?;
        match self.caps[id].what {
            What::Child(_)
            | What::Net {
                transferable: false, ..
            } => Err(ErrorCode::NotTransferable),
            // There is nothing left that it could end.
            What::Revoker(target) if self.caps[target].ended.is_some() => Err(ErrorCode::Revoked),
            what @ (What::Stream(_) | What::Udp(_)) => {
                // The capability itself goes, and its holder has it no more.
                self.caps[id].closed = true;
                self.caps[id].moved = true;
                Ok((self.caps[id].parent, what))
            }
            what => Ok((Some(id), what)),
        }
    }

    // Objects

    /// Whether anybody holds an object.
    pub(super) fn is_object_held(&self, implementer: ProgramId, number: i32) -> bool {
        let object = What::Object(implementer, number);
        self.caps.iter().any(|cap| cap.what == object && cap.is_held())
    }

    /// What a program hears of its objects that nobody holds any more: how many, and the sum of their numbers.
    pub(super) fn forgotten(&mut self, program: ProgramId) -> i32 {
        let mut answer = 0;
        for index in 0..self.objects.len() {
            let (implementer, number, told) = self.objects[index];
            if implementer == program && !told && !self.is_object_held(implementer, number) {
                self.objects[index].2 = true;
                answer += (1 << 16) + number;
            }
        }
        answer
    }
}
