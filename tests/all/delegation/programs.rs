//! The programs of a sequence: how it begins, who starts whom, how they end, and that nothing is left.

use refcap::ErrorCode;
use refcap_abi::Kind;

use super::actor::{self, SLOTS};
use super::choose::{Place, number};
use super::model::ProgramId;
use super::model::{DEPTH, VatId, What};
use super::steps::NUMBERS;
use super::world::{Failed, ROOTS, World, endowment};

/// More vats than this are not there at once, and below one no more than that.
const VATS: usize = 9;
const CHILDREN: usize = 3;

/// What a program may be started with, besides the way home.
const ENDOWMENTS: [(&str, Kind); 5] = [
    ("net", Kind::Net),
    ("spawner", Kind::Spawner),
    ("object", Kind::Object),
    ("revoker", Kind::Revoker),
    ("more", Kind::Net),
];

/// As a number that chooses among them: all, and of each kind the first that there is.
const ALL_ENDOWMENTS: u32 = 0b01_1111;

impl World {
    /// The same beginning for all sequences: below two desks four programs, two of them with a wing. Each has a Net, and
    /// objects of others by which they reach each other.
    pub(super) async fn prologue(&mut self) -> Result<(), Failed> {
        for family in 0..2 {
            let desk = self.desk_of(family);
            let [object, lent, revoker] = [6, 7, 8];
            self.make_object(desk, object).await?;
            self.make_revocable(desk, "net_revocable", [lent, revoker, endowment("net")])
                .await?;
            self.spawn((desk, endowment("spawner")), "single", [ALL_ENDOWMENTS; NUMBERS])
                .await?;
            let below = (self.actors.len() - 1, endowment("spawner"));
            let by = if family == 0 {
                (desk, endowment("spawner"))
            } else {
                below
            };
            self.spawn(by, "pair", [ALL_ENDOWMENTS; NUMBERS]).await?;
        }
        for program in self.alive() {
            let desk = self.desk_of(self.actors[program].family);
            if program == desk || self.kind(program, endowment("object")) != Some(Kind::Object) {
                continue;
            }
            let (own, there) = (self.room(program, 0), self.room(desk, 0));
            self.make_object(program, own).await?;
            self.hand((program, endowment("object")), own, there).await?;
        }
        Ok(())
    }

    /// Starts a program, with what it is to have chosen by the first of the numbers.
    pub(super) async fn spawn(
        &mut self,
        (by, spawner): Place,
        name: &str,
        numbers: [u32; NUMBERS],
    ) -> Result<(), Failed> {
        let vat = self.model.programs[by].vat;
        let vats = &self.model.vats;
        let running = vats.iter().filter(|vat| vat.alive).count();
        let to = self.room(by, numbers[1]);
        if running >= VATS || self.model.children(vat) >= CHILDREN {
            return Ok(());
        }
        self.model.clear(by, to);
        let above = match self.model.what(by, spawner) {
            Ok(What::Spawner) if self.model.vats[vat].generation >= DEPTH => Err(ErrorCode::LimitReached),
            Ok(What::Spawner) => self.model.look(by, spawner),
            Ok(_) => Err(ErrorCode::WrongKind),
            Err(error) => Err(error),
        };
        let [at, length] = actor::name(name);
        let arguments = [number(to), number(spawner), at, length];
        self.order(by, "spawner_program", &arguments, &[], above.map(|_| 0))
            .await?;
        let Ok(above) = above else { return Ok(()) };
        let child = self.model.add_vat(Some(vat));
        self.model.put(by, to, Some(above), What::Child(child));
        // Each generation has so much that it can start some of the next.
        let [memory, capabilities, sockets] =
            [[64, 20_000, 400], [14, 4_000, 80], [3, 800, 16]][self.model.vats[vat].generation];
        let limits = [number(to), memory, capabilities, sockets];
        self.order(by, "limits", &limits, &[], Ok(0)).await?;
        let [at, length] = actor::name("home");
        self.order(by, "child_grant", &[number(to), 0, at, length], &[], Ok(0))
            .await?;
        let mut given = Vec::new();
        for (index, (name, kind)) in ENDOWMENTS.into_iter().enumerate() {
            if numbers[0] >> index & 1 == 0 {
                continue;
            }
            let n = numbers[1 + index % (NUMBERS - 1)] >> index;
            // Of the right kind, if there is one.
            let held: Vec<_> = (1..SLOTS)
                .filter(|&slot| self.kind(by, slot) == Some(kind))
                .collect();
            let slot = match held.get(n as usize % held.len().max(1)) {
                Some(&slot) if !n.is_multiple_of(16) => slot,
                _ => self.any_slot(by, n),
            };
            let fits = match self.model.what(by, slot) {
                Ok(what) if what.kind() != kind => Err(ErrorCode::BadArgument),
                Ok(_) => self.model.hand_over(by, slot),
                Err(error) => Err(error),
            };
            let [at, length] = actor::name(name);
            let arguments = [number(to), number(slot), at, length];
            self.order(by, "child_grant", &arguments, &[], fits.map(|_| 0))
                .await?;
            given.extend(fits.ok().map(|(cap, what)| (endowment(name), cap, what)));
        }
        self.order(by, "child_start", &[number(to)], &[], Ok(0)).await?;
        self.greet(self.actors[by].family, child, name == "pair").await?;
        let program = self.model.programs_of(child).next().unwrap_or_default();
        for (slot, cap, what) in given {
            self.counts.handed_over += 1;
            self.model.put(program, slot, cap, what);
        }
        Ok(())
    }

    /// A program that is not a desk, and its parent's hold on it.
    pub(super) fn somebody(&self, n: u32) -> Option<(ProgramId, Place)> {
        let (parent, slot) = self.holder_of(Kind::Child, n)?;
        let What::Child(vat) = self.model.what(parent, slot).ok()? else {
            return None;
        };
        let program = self.model.programs_of(vat).next()?;
        self.model.vats[vat].alive.then_some((program, (parent, slot)))
    }

    pub(super) async fn exit(&mut self, [a, b]: [u32; 2]) -> Result<(), Failed> {
        let Some((program, (parent, slot))) = self.somebody(a) else {
            return Ok(());
        };
        self.send(program, ["quit", "exit", "trap"][b as usize % 3])
            .await?;
        let vat = self.model.programs[program].vat;
        let ended = self.end(vat);
        // All below it is gone when that is heard.
        self.wait_for((parent, slot)).await?;
        self.gone(&ended).await?;
        self.check().await
    }

    /// Waits for a program by the hold that its parent has on it.
    pub(super) async fn wait_for(&mut self, (parent, slot): Place) -> Result<(), Failed> {
        let arguments = [number(slot), 2048, 0, 0];
        let status = self.status(parent, "child_wait", &arguments, &[]).await?;
        match status {
            1.. => Ok(()),
            _ => Err(format!(
                "program {parent} waited for the one in slot {slot}: {status}"
            )),
        }
    }

    /// A vat ends in the model. Returns it and all that end with it.
    pub(super) fn end(&mut self, vat: VatId) -> Vec<VatId> {
        let before: Vec<_> = self.model.vats.iter().map(|vat| vat.alive).collect();
        self.model.end(vat);
        self.ended_since(&before)
    }

    pub(super) fn ended_since(&self, before: &[bool]) -> Vec<VatId> {
        let all = 0..before.len();
        all.filter(|&vat| before[vat] && !self.model.vats[vat].alive)
            .collect()
    }

    pub(super) async fn stop(&mut self, [a, b]: [u32; 2]) -> Result<(), Failed> {
        let Some((program, (parent, slot))) = self.somebody(a) else {
            return Ok(());
        };
        // Sometimes it computes for ever.
        if b % 4 == 0 {
            self.send(program, "spin").await?;
        }
        let vat = self.model.programs[program].vat;
        let ended = self.end(vat);
        self.order(parent, "child_stop", &[number(slot)], &[], Ok(1))
            .await?;
        self.gone(&ended).await?;
        self.check().await
    }

    pub(super) async fn close(&mut self, [a, b]: [u32; 2]) -> Result<(), Failed> {
        let alive = self.alive();
        let program = alive[a as usize % alive.len()];
        let slot = self.any_slot(program, b);
        if self.kind(program, slot) == Some(Kind::Spawner) && b % 5 != 0 {
            return Ok(());
        }
        let before: Vec<_> = self.model.vats.iter().map(|vat| vat.alive).collect();
        let expected = self.model.close(program, slot).map(|_| 0);
        let ended = self.ended_since(&before);
        self.order(program, "cap_close", &[number(slot)], &[], expected)
            .await?;
        if ended.is_empty() {
            return Ok(());
        }
        self.gone(&ended).await?;
        self.check().await
    }

    /// The end of a sequence: desks end one after the other, in whatever way, and nothing is left.
    pub(super) async fn take_down(&mut self) -> Result<(), Failed> {
        self.check().await?;
        let how = self.numbers.next();
        let first = how as usize / 64 % 2;
        self.end_desk(first, how).await?;
        self.check().await?;
        self.end_desk(1 - first, how / 8).await?;
        self.check_lineages()?;
        self.hosts.truncate(2 * ROOTS);
        for family in &self.families {
            let left = (family.handle.capabilities(), family.handle.sockets());
            if left != (0, 0) {
                return Err(format!("capabilities and sockets of a desk are left: {left:?}"));
            }
        }
        for (root, cap) in &self.hosts {
            let left = root.as_ref().map(|root| root.lineage().len());
            if left != Some(usize::from(self.model.caps[*cap].is_held())) {
                return Err(format!("below {root:?} {left:?} are left"));
            }
        }
        Ok(())
    }
}
