//! Whether an intersection with a simple bound can fail, told without making it.

use std::collections::HashSet;

use crate::bound::{Bound, Boundaries};
use crate::form::{Form, Sets, slot};
use crate::region::{Extent, FREE_WORK, MAX_CELLS, Region, Seen};
use crate::tuple::{Direction, Operation, Protocol};

/// What there is to know about sets to tell whether an intersection of them with a row of bounds could fail.
pub(crate) struct Extents {
    outbound: Extent,
    inbound: Extent,
    cells: usize,
    /// The cells of local ends among them, for outbound operations.
    local_cells: usize,
    /// How many bounds fit, whatever they are, if the last of them is outbound, and if it is inbound.
    sure: [u8; 2],
}

/// More cells than all the bounds of a row have, and the empty sets that come with them.
const CELLS_OF_BOUNDS: u64 = 4096;

/// What bounds have in common that follow one another.
#[derive(Clone, Copy)]
struct Row {
    /// The boundaries of all of them on each level.
    boundaries: Boundaries,
    /// Whether one of them leaves one remote host only.
    one_host: bool,
    /// The direction of the last.
    direction: Direction,
}

impl Row {
    fn add(&mut self, bound: &Bound) {
        self.direction = bound.direction();
        self.one_host |= bound.has_one_remote();
        for (own, more) in self.boundaries.iter_mut().zip(bound.boundaries()) {
            *own += more;
        }
    }
}

impl Extents {
    /// Those of sets that have that many cells. No more bounds than `most_links` will follow one another.
    pub(crate) fn of(sets: &Sets, cells: usize, most_links: u8) -> Extents {
        let mut seen = Seen::new();
        // Where operations and protocols share a set, they share what is made of it, as long as the bound has
        // one set for them as well. That of a bind is another one than that of what else is inbound.
        let mut of = |is_one: fn(Operation) -> bool| {
            let mut extent = Extent::default();
            let mut counted: Vec<usize> = Vec::new();
            for operation in Operation::ALL.into_iter().filter(|operation| is_one(*operation)) {
                for protocol in Protocol::ALL {
                    let set = &sets[slot(operation, protocol)];
                    if !set.is_empty() && !counted.contains(&set.identity()) {
                        counted.push(set.identity());
                        extent += set.extent(&mut seen);
                    }
                }
            }
            extent
        };
        let outbound = of(|operation| operation.direction() == Direction::Outbound);
        let mut inbound =
            of(|operation| operation.direction() == Direction::Inbound && operation != Operation::Bind);
        inbound += of(|operation| operation == Operation::Bind);
        let mut extents = Extents {
            outbound,
            inbound,
            cells,
            local_cells: local_cells(sets),
            sure: [0, 0],
        };
        for direction in [Direction::Outbound, Direction::Inbound] {
            let any = |links: &u8| {
                let links = u64::from(*links);
                // Those before the last one are of any direction.
                let [out, inb] = [Direction::Outbound, Direction::Inbound].map(Bound::most_boundaries);
                extents.fits(&Row {
                    boundaries: std::array::from_fn(|level| links * out[level].max(inb[level])),
                    one_host: false,
                    direction,
                })
            };
            let sure = (1..=most_links).take_while(any).last().unwrap_or(0);
            extents.sure[direction as usize] = sure;
        }
        extents
    }

    /// Whether the intersection of the sets with the bounds of `before`, if there are any, of which they are the beginning,
    /// and with one more, is sure to succeed. With that one there are `links` of them.
    #[inline]
    pub(crate) fn fit(&self, links: u8, before: Option<&Form>, bound: &Bound) -> bool {
        links <= self.sure[bound.direction() as usize] || self.fit_together(before, bound)
    }

    #[inline(never)]
    fn fit_together(&self, before: Option<&Form>, bound: &Bound) -> bool {
        let mut row = Row {
            boundaries: [0; 4],
            one_host: false,
            direction: bound.direction(),
        };
        // The last one comes last, and the order of the others says nothing.
        for bound in before.into_iter().flat_map(Form::bounds).chain([bound]) {
            row.add(bound);
        }
        self.fits(&row)
    }

    /// Whether the intersection with each bound of the row, one after the other, is sure to succeed. Without
    /// the last one it is.
    ///
    /// An intersection fails for two reasons: the work goes beyond what a [`Budget`](crate::region::Budget)
    /// for it has, which is `FREE_WORK + 16 * cells` or four times [`MAX_CELLS`], and the result has more than
    /// [`MAX_CELLS`]. [`size`](Extents::size) bounds both.
    fn fits(&self, row: &Row) -> bool {
        let [_, ports, addresses, local_ports] = self.outbound.levels();
        let most = MAX_CELLS as u64;
        let work = match row.direction {
            // A step of the hosts, which is a cell, costs one and at most one for each step of its ports.
            Direction::Outbound if 1 + u64::from(ports.longest) + row.boundaries[1] <= 16 => most,
            _ => FREE_WORK as u64,
        };
        // The local ends towards an address are an intersection too, if it has others embedded: of six sets at
        // most, which `Authority::allows` takes from the beginning of the row.
        let local_steps = 1 + 6 * u64::from(local_ports.longest);
        let towards = local_steps.saturating_mul(30 * u64::from(addresses.longest));
        self.size(row).is_some_and(|size| {
            size <= work
                && size + self.shared(row.direction) <= most
                && (row.direction == Direction::Inbound || towards <= FREE_WORK as u64)
        })
    }

    /// The most cells that a result may have beside those that its [`size`](Extents::size) has, because it
    /// shares them with the sets or a bound.
    fn shared(&self, direction: Direction) -> u64 {
        let cells = match direction {
            // Its hosts and ports count as often as they have a place, shared or not.
            Direction::Outbound => self.local_cells,
            Direction::Inbound => self.cells,
        };
        cells as u64 + CELLS_OF_BOUNDS
    }

    /// The most that the intersection with the last bound of the row costs, and the most cells that its result
    /// has on the levels that are walked over; `None` if that is more than [`MAX_CELLS`].
    ///
    /// These are the steps that the sets have on each level, nothing shared, with every boundary of every bound
    /// added to every function:
    ///
    /// - A result is in normal form, so it has no boundary that neither the sets nor a bound have. A walk over
    ///   two functions stops, and spends one, at boundaries only and at the bottom.
    /// - A boundary that falls into a step parts it, and what is below that step is there once more: that is
    ///   no more than the longest function of the level.
    /// - An outbound bound has every local end, so local ends are never walked over: those of the result are
    ///   those of the sets. An inbound one has every remote port, and all four levels may be walked over.
    /// - What bounds of the other direction leave is empty, and costs nothing.
    fn size(&self, row: &Row) -> Option<u64> {
        let of_one_host = row.one_host && row.direction == Direction::Outbound;
        let (extent, depth) = match row.direction {
            Direction::Outbound if of_one_host => (self.outbound.of_one_host(), 2),
            Direction::Outbound => (self.outbound, 2),
            Direction::Inbound => (self.inbound, 4),
        };
        let mut boundaries = row.boundaries;
        if of_one_host {
            // None falls between a host and the next, and those that a walk meets are in the extent.
            boundaries[0] = 0;
        }
        let levels = extent.levels();
        let mut size = 0;
        let mut added = 0;
        let mut functions = u64::from(levels[0].functions);
        for at in 0..depth {
            // Nothing overflows: what was added on the level before is no more than the most cells.
            added = added * u64::from(levels[at].longest) + functions * boundaries[at];
            size += u64::from(levels[at].steps) + added;
            if size > MAX_CELLS as u64 {
                return None;
            }
            functions = added + levels.get(at + 1).map_or(0, |below| u64::from(below.functions));
        }
        Some(size)
    }
}

/// The cells of local ends in sets of outbound operations. What is empty counts with them: it has a place
/// where nothing is.
fn local_cells(sets: &Sets) -> usize {
    let outbound = Operation::ALL
        .into_iter()
        .filter(|operation| operation.direction() == Direction::Outbound)
        .flat_map(|operation| Protocol::ALL.map(|protocol| &sets[slot(operation, protocol)]));
    let (mut of_ports, mut seen) = (HashSet::new(), HashSet::new());
    let mut cells = 0;
    for set in outbound {
        let addresses = set.addresses.v4.values().iter().chain(set.addresses.v6.values());
        for ports in addresses.chain(set.names.values()) {
            if ports.is_empty() {
                cells += ports.cells(&mut seen);
            } else if of_ports.insert(ports.identity()) {
                let locals = ports.values().iter();
                cells += locals.map(|locals| locals.cells(&mut seen)).sum::<usize>();
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;
    use crate::region::{Budget, Op};
    use crate::rules::Rules;

    const MOST_LINKS: u8 = 8;

    fn authority(text: &str) -> Authority {
        text.parse().unwrap()
    }

    fn extents(authority: &Authority) -> Extents {
        Extents::of(&authority.form.whole().sets, authority.cells(), MOST_LINKS)
    }

    fn row<'a>(bounds: impl IntoIterator<Item = &'a Bound>) -> Row {
        let mut row = Row {
            boundaries: [0; 4],
            one_host: false,
            direction: Direction::Outbound,
        };
        for bound in bounds {
            row.add(bound);
        }
        row
    }

    #[test]
    fn the_size_bounds_work_and_cells() {
        let many: Vec<String> = (0..60u8)
            .map(|n| {
                format!(
                    "connect,send tcp 10.{n}.0.0/24:{n},{},1000-2000",
                    200 + u16::from(n)
                )
            })
            .collect();
        let parents = [
            "",
            "connect tcp *:*",
            "connect tcp 0.0.0.0/0:*; connect tcp [::/0]:*; connect,send udp any-name:*",
            "connect,send tcp,udp 10.0.0.0/8:1,3,5,7,9-20; connect tcp *.com:*; except 10.9.0.0/16, *:3",
            "connect tcp *:80,443 from 10.0.0.1:1,2,3; send udp 8.8.8.8:53 from 10.0.0.0/30:1024-2048",
            "bind,listen tcp *:80,443; accept tcp 10.0.0.0/8:80 from 192.168.0.0/16; except *:5",
            "bind,listen,accept,receive tcp,udp *:*; except loopback, listen udp private:1,3,5 from public:7",
            &many.join("; "),
        ]
        .map(authority);
        let bounds = [
            "connect,send tcp,udp *:*",
            "connect tcp *:443",
            "connect tcp public:1-4,443,1500-1600,65535",
            "connect,send tcp,udp 10.0.0.0/8:0-65534",
            "connect tcp 10.3.0.1-10.30.0.1:3,443",
            "connect tcp 10.3.0.1:203,1500",
            "connect tcp [::/0]:443",
            "connect,send udp any-name:*",
            "connect tcp *.com:80",
            "connect tcp a.com:80",
            "bind,listen,accept,receive tcp,udp *:*",
            "bind tcp *:80,443",
            "listen,accept tcp private:79-81",
            "accept tcp 10.0.0.1:80",
            "bind,receive udp [::1]:1,3,5,7",
        ]
        .map(|text| Bound::of(&Rules::parse(text).unwrap()).unwrap());
        let sets = bounds.map(|bound| Authority::from_rules(&bound.to_rules()).unwrap());
        for parent in &parents {
            let extents = extents(parent);
            let check = |before: &Authority, row: &Row, by: usize| {
                let size = extents.size(row).unwrap();
                let after = before.combine(&sets[by], Op::Intersect, &mut Budget::exactly(size as usize));
                let after =
                    after.unwrap_or_else(|_| panic!("{size} is too little for {before} in {:?}", bounds[by]));
                assert!(after.cells() as u64 <= size + extents.shared(row.direction));
                after
            };
            for a in 0..bounds.len() {
                let first = check(parent, &row([&bounds[a]]), a);
                for b in 0..bounds.len() {
                    let second = check(&first, &row([&bounds[a], &bounds[b]]), b);
                    let c = (a + b) % bounds.len();
                    check(&second, &row([&bounds[a], &bounds[b], &bounds[c]]), c);
                }
            }
        }
    }

    #[test]
    fn what_is_sure_is_sure_for_each_bound() {
        let extents = extents(&authority(
            "connect tcp *:*; bind,listen tcp *:80; except private",
        ));
        assert_eq!(extents.sure[Direction::Outbound as usize], MOST_LINKS);
        assert!(extents.sure[Direction::Inbound as usize] >= 1);
        let most = [Direction::Outbound, Direction::Inbound].map(Bound::most_boundaries);
        for class in crate::Class::ALL {
            for (operation, most) in [("send", most[0]), ("bind", most[1])] {
                let rules = Rules::parse(&format!("{operation} udp {class}:1,3,5,7")).unwrap();
                let boundaries = Bound::of(&rules).unwrap().boundaries();
                assert!(
                    boundaries.iter().zip(most).all(|(own, most)| *own <= most),
                    "{class}"
                );
            }
        }
    }

    #[test]
    fn long_lists_are_not_sure() {
        let ports: Vec<String> = (0..32_768).map(|port| (2 * port).to_string()).collect();
        let ports = ports.join(",");
        let bound = |text: &str| Bound::of(&Rules::parse(text).unwrap()).unwrap();
        // Classes part a step often, and each part has the whole list.
        let long = extents(&authority(&format!(
            "connect tcp *:{ports}; connect tcp private:7"
        )));
        assert!(long.fits(&row([&bound("connect tcp 10.0.0.1:*")])));
        assert!(!long.fits(&row([&bound("connect tcp public:*")])));
        // Two lists of local ports that are as long, towards one host.
        let text = format!("connect tcp *:1 from 10.0.0.1:{ports}; connect tcp *:2 from 10.0.0.0/24:5");
        assert!(!extents(&authority(&text)).fits(&row([&bound("connect tcp 10.0.0.1:1")])));
    }
}
