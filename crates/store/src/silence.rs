//! Which of the processes that share the database still tell that they live.
//!
//! No two machines have the same clock, and any clock may be set. So no time is compared with another machine's: somebody is
//! dead whose mark has stood still for so many looks, one each second.

use std::collections::HashMap;

use mcphub_domain::ChainId;
use parking_lot::Mutex;

/// How many looks after the first one have to find a mark as it was.
const LOOKS: u32 = 10;

/// Is what a process leaves behind while it lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Mark {
    /// When it told so last, each second, by its own clock.
    pub(crate) told: i64,
    /// The first record of the last segment that it wrote.
    pub(crate) wrote: i64,
}

/// Remembers what the looks found.
#[derive(Default)]
pub(crate) struct Silence(Mutex<HashMap<ChainId, (Mark, u32)>>);

impl Silence {
    /// Takes in whom a look found with which mark, and returns those who are dead.
    pub(crate) fn look(&self, found: Vec<(ChainId, Mark)>) -> Vec<(ChainId, Mark)> {
        let mut before = self.0.lock();
        let looks = |(chain, mark)| match before.get(&chain) {
            Some((then, looks)) if *then == mark => (chain, (mark, looks.saturating_add(1))),
            _ => (chain, (mark, 0)),
        };
        let now: HashMap<_, _> = found.into_iter().map(looks).collect();
        let mut dead: Vec<_> = now
            .iter()
            .filter(|(_, (_, looks))| *looks >= LOOKS)
            .map(|(chain, (mark, _))| (*chain, *mark))
            .collect();
        dead.sort_unstable();
        *before = now;
        dead
    }
}

#[cfg(test)]
mod tests {
    use mcphub_domain::ChainId;

    use super::{LOOKS, Mark, Silence};

    #[test]
    fn only_who_is_silent_for_all_looks_is_dead() {
        let (silence, chain) = (Silence::default(), |number| ChainId::from_bytes([number; 16]));
        let left = |number, told, wrote| (chain(number), Mark { told, wrote });
        for look in 0..i64::from(LOOKS) {
            assert_eq!(silence.look(vec![left(1, 7, 1), left(2, look, 1), left(3, 7, look)]), []);
        }
        assert_eq!(silence.look(vec![left(1, 7, 1), left(2, 99, 1), left(3, 7, 99)]), [left(1, 7, 1)]);
        assert_eq!(silence.look(vec![left(1, 6, 1)]), [], "it told, and its clock was set back");
        assert_eq!(silence.look(Vec::new()), []);
        assert_eq!(silence.look(vec![left(1, 6, 1)]), [], "it was not there meanwhile");
    }
}
