//! What the embedder does in a sequence.

use refcap::ErrorCode;

use super::actor;
use super::choose::number;
use super::model::What;
use super::network;
use super::world::{Failed, ROOTS, World, net_of};

impl World {
    /// One of the embedder's Nets that it has not given up.
    pub(super) fn host_net(&self, n: u32) -> Option<usize> {
        let is_net = |&host: &usize| !(ROOTS..2 * ROOTS).contains(&host);
        let held = |&host: &usize| self.hosts[host].0.is_some();
        let nets: Vec<_> = (0..self.hosts.len()).filter(is_net).filter(held).collect();
        nets.get(n as usize % nets.len().max(1)).copied()
    }

    pub(super) fn host_derive(&mut self, [a, b, c, d]: [u32; 4]) -> Result<(), Failed> {
        let Some((host, (Some(capability), cap))) = self.host_net(a).map(|host| (host, &self.hosts[host]))
        else {
            return Ok(());
        };
        let asked = network::asked([b, c, d]);
        let rules = asked.rules.parse().map_err(|error| format!("{error}"))?;
        let real = capability.only(&rules);
        let cap = *cap;
        let is_alive = self.model.caps[cap].is_held();
        self.trace
            .push(format!("    the embedder derives from {host}: {}", asked.rules));
        match (real, is_alive, self.model.caps[cap].what) {
            (Ok(new), true, What::Net { tuples, .. }) => {
                let id = self.model.add(Some(cap), net_of(tuples & asked.tuples), None);
                self.hosts.push((Some(new), id));
                Ok(())
            }
            (Err(_), false, _) => Ok(()),
            (real, ..) => Err(format!("the embedder derived {real:?} from its {host}")),
        }
    }

    pub(super) async fn host_grant(&mut self, [a, b, c]: [u32; 3]) -> Result<(), Failed> {
        let (Some(host), family) = (self.host_net(a), b as usize % 2) else {
            return Ok(());
        };
        let desk = self.desk_of(family);
        let (Some(capability), cap) = &self.hosts[host] else {
            return Ok(());
        };
        let cap = *cap;
        self.families[family].handle.grant("late", capability);
        let to = self.room(desk, c);
        self.model.clear(desk, to);
        let made = match self.model.caps[cap].is_held() {
            true => Ok((cap, self.model.caps[cap].what)),
            false => Err(ErrorCode::Revoked),
        };
        let [at, length] = actor::name("late");
        self.order(
            desk,
            "grant_take",
            &[number(to), at, length],
            &[],
            made.map(|_| 0),
        )
        .await?;
        self.made(desk, to, made);
        self.counts.handed_over += u64::from(made.is_ok());
        Ok(())
    }

    pub(super) async fn host_narrow(&mut self, [a, b, c]: [u32; 3]) -> Result<(), Failed> {
        let Some(host) = self.host_net(a) else {
            return Ok(());
        };
        let bound = (b | c) & network::ALL;
        let (Some(capability), cap) = &self.hosts[host] else {
            return Ok(());
        };
        let bounds = crate::support::authority(&network::rules(bound));
        let (real, cap) = (capability.narrow(&bounds), *cap);
        self.trace
            .push(format!("    the embedder narrows {host} to {bound:#x}: {real:?}"));
        if real.is_ok() != self.model.narrow(cap, bound).is_ok() {
            return Err(format!("narrowing gave {real:?}"));
        }
        self.check().await
    }

    pub(super) async fn host_revoke(&mut self, a: u32) -> Result<(), Failed> {
        // The roots seldom: nothing is left then.
        let derived = self.hosts.len() - 2 * ROOTS;
        let host = match derived {
            0 if !a.is_multiple_of(4) => return Ok(()),
            0 => a as usize / 4 % ROOTS,
            _ => 2 * ROOTS + a as usize % derived,
        };
        self.host_revokes(host).await
    }

    /// Revokes one of the embedder's, and looks at what is left.
    pub(super) async fn host_revokes(&mut self, host: usize) -> Result<(), Failed> {
        let (Some(capability), cap) = &self.hosts[host] else {
            return Ok(());
        };
        let (real, cap) = (number(capability.revoke()), *cap);
        let before: Vec<_> = self.model.vats.iter().map(|vat| vat.alive).collect();
        let (held, vats) = self.model.revoke(cap, ErrorCode::Revoked);
        self.trace
            .push(format!("    the embedder revokes {host}: {real} ended"));
        if real != held {
            return Err(format!(
                "the embedder's revocation of {host} ended {real}, and the model says {held}"
            ));
        }
        self.has_revoked((held, vats));
        let ended = self.ended_since(&before);
        self.gone(&ended).await?;
        self.check().await
    }

    pub(super) async fn host_revoke_spawner(&mut self, [a, b]: [u32; 2]) -> Result<(), Failed> {
        // Seldom, for it leaves a desk alone.
        if b % 4 != 0 {
            return Ok(());
        }
        self.host_revokes(ROOTS + a as usize % ROOTS).await
    }

    /// The embedder gives one of its own up; what came from it lives on.
    pub(super) fn host_close(&mut self, a: u32) -> Result<(), Failed> {
        let derived = self.hosts.len() - 2 * ROOTS;
        if derived > 0 {
            let host = 2 * ROOTS + a as usize % derived;
            self.trace.push(format!("    the embedder gives {host} up"));
            let (capability, cap) = &mut self.hosts[host];
            drop(capability.take());
            self.model.give_up(*cap);
        }
        Ok(())
    }
}
