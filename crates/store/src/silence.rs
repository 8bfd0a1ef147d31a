//! Which of the processes that share the database still tell that they live.
//!
//! No two machines have the same clock, and any clock may be set. So no time is compared with another machine's: somebody is
//! dead whose mark has stood still for so many looks, one each second.

use std::collections::HashMap;

use mcphub_domain::ChainId;
use parking_lot::Mutex;

/// How many looks after the first one have to find a mark as it was.
const LOOKS: u32 = 10;

/// Is what a process leaves behind while it lives: when it told so last, each second, by its own clock; and the number of
/// the first record in its last segment.
pub(crate) type Mark = (i64, i64);

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

    use super::{LOOKS, Silence};

    #[test]
    fn only_who_is_silent_for_all_looks_is_dead() {
        let (silence, chain) = (Silence::default(), |number| ChainId::from_bytes([number; 16]));
        for look in 0..LOOKS {
            let (tells, writes) = ((i64::from(look), 1), (7, i64::from(look)));
            assert_eq!(silence.look(vec![(chain(1), (7, 1)), (chain(2), tells), (chain(3), writes)]), []);
        }
        let all = vec![(chain(1), (7, 1)), (chain(2), (99, 1)), (chain(3), (7, 99))];
        assert_eq!(silence.look(all), [(chain(1), (7, 1))]);
        assert_eq!(silence.look(vec![(chain(1), (6, 1))]), [], "it told, and its clock was set back");
        assert_eq!(silence.look(Vec::new()), []);
        assert_eq!(silence.look(vec![(chain(1), (6, 1))]), [], "it was not there meanwhile");
    }
}
