//! What goes to an object and back: bytes, and capabilities on their way.

use crate::capability::Capability;
use crate::capability::NotEnclosed;
use crate::capability::membrane::Membranes;

/// Bytes and capabilities, one way. Most messages have nothing in them, and are a null pointer then: a call moves a few
/// of them from place to place, and each vat has several.
#[derive(Debug, Default)]
pub(crate) struct Message(Option<Box<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// Each until it is taken.
    capabilities: Vec<Option<Capability>>,
}

impl Contents {
    /// Whether its room is worth keeping, and has nothing in it that has to end first.
    #[inline]
    fn is_short_and_plain(&self) -> bool {
        self.capabilities.is_empty() && self.bytes.capacity() <= Spare::LONGEST
    }
}

impl Message {
    /// A message of bytes alone.
    pub(crate) fn of(bytes: Vec<u8>) -> Message {
        Message(Some(Box::new(Contents {
            bytes,
            capabilities: Vec::new(),
        })))
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |contents| &contents.bytes)
    }

    /// How many capabilities it has, those that were taken included.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |contents| contents.capabilities.len())
    }

    /// Where a capability is, or was until it was taken.
    pub(crate) fn place(&mut self, place: usize) -> Option<&mut Option<Capability>> {
        self.0.as_mut()?.capabilities.get_mut(place)
    }

    /// The first of its capabilities that was not taken.
    pub(crate) fn into_first(self) -> Option<Capability> {
        self.0?.capabilities.into_iter().flatten().next()
    }

    /// Sets its bytes.
    #[inline]
    pub(crate) fn say(&mut self, bytes: &[u8], spare: &mut Spare) {
        if bytes.is_empty() && self.0.is_none() {
            return;
        }
        let contents = self.0.get_or_insert_with(|| spare.take());
        contents.bytes.clear();
        contents.bytes.extend_from_slice(bytes);
    }

    /// Adds a capability.
    pub(crate) fn attach(&mut self, capability: Capability, spare: &mut Spare) {
        let contents = self.0.get_or_insert_with(|| spare.take());
        contents.capabilities.push(Some(capability));
    }

    /// Puts a message where most often is none.
    #[inline]
    pub(crate) fn put(&mut self, message: Message) {
        if self.0.is_some() {
            self.drop_contents();
        }
        // What was there is nothing by now, for which no code has to be made.
        std::mem::forget(std::mem::replace(self, message));
    }

    #[cold]
    fn drop_contents(&mut self) {
        self.0 = None;
    }

    /// Takes it all; what is left is empty.
    #[inline]
    pub(crate) fn take(&mut self) -> Message {
        std::mem::take(self)
    }

    /// Takes what is in it across membranes. What can't cross ends here, and with it the message.
    #[inline]
    pub(crate) fn cross(&mut self, membranes: &Membranes) -> Result<(), NotEnclosed> {
        match &mut self.0 {
            Some(contents) if !membranes.is_empty() => contents
                .capabilities
                .iter_mut()
                .flatten()
                .try_for_each(|capability| capability.enclose(membranes)),
            _ => Ok(()),
        }
    }
}

/// Room for messages, kept from those that were read, so that a call of some bytes allocates nothing.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "what a message has is a box, which comes from here and goes back"
)]
pub(crate) struct Spare {
    /// Most calls are in no other call, and need no more.
    one: Option<Box<Contents>>,
    more: Vec<Box<Contents>>,
}

impl Spare {
    /// The most that is kept.
    const MOST: usize = 4;
    /// The longest message whose room is kept, in bytes.
    const LONGEST: usize = 4096;

    /// Keeps the room of a message that nobody will read any more. Capabilities that were not taken end.
    #[inline]
    pub(crate) fn keep(&mut self, spent: Message) {
        match spent.0 {
            None => {}
            Some(contents) if self.one.is_none() && contents.is_short_and_plain() => {
                std::mem::forget(self.one.replace(contents));
            }
            Some(contents) => self.keep_more(contents),
        }
    }

    #[cold]
    fn keep_more(&mut self, mut contents: Box<Contents>) {
        contents.capabilities.clear();
        if !contents.is_short_and_plain() {
            return;
        }
        if self.one.is_none() {
            self.one = Some(contents);
        } else if self.more.len() + 1 < Self::MOST {
            self.more.push(contents);
        }
    }

    /// Room in which nothing is.
    #[inline]
    fn take(&mut self) -> Box<Contents> {
        let mut room = match self.one.take() {
            Some(room) => room,
            None => self.take_more(),
        };
        room.bytes.clear();
        room
    }

    #[cold]
    fn take_more(&mut self) -> Box<Contents> {
        self.more.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_nothing_has_no_room_and_a_short_one_leaves_its_own() {
        let mut spare = Spare::default();
        let mut message = Message::default();
        message.say(b"", &mut spare);
        assert!(message.0.is_none());
        message.say(b"hello", &mut spare);
        assert_eq!((message.bytes(), message.count()), (&b"hello"[..], 0));
        let room = message.bytes().as_ptr();
        spare.keep(message.take());
        assert_eq!(message.bytes(), b"");
        message.say(b"again", &mut spare);
        assert_eq!(message.bytes(), b"again");
        assert_eq!(message.bytes().as_ptr(), room);
        message.say(b"", &mut spare);
        assert_eq!(message.bytes(), b"");
    }

    #[test]
    fn little_is_kept_and_nothing_long() {
        let mut spare = Spare::default();
        spare.keep(Message::of(vec![0; Spare::LONGEST + 1]));
        assert!(spare.one.is_none() && spare.more.is_empty());
        for _ in 0..Spare::MOST + 2 {
            spare.keep(Message::of(vec![0; 8]));
        }
        assert_eq!(1 + spare.more.len(), Spare::MOST);
        for _ in 0..Spare::MOST {
            let room = spare.take();
            assert!(room.bytes.is_empty() && room.capabilities.is_empty());
            assert_eq!(room.bytes.capacity(), 8);
        }
        assert_eq!(spare.take().bytes.capacity(), 0);
    }
}
