//! The server over the standard input and output.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::thread;
use std::time::Duration;

use super::deed::{Change, Deed, Era, deed, news};
use crate::Failure;

/// How long `count` thinks before each step.
const STEP: Duration = Duration::from_millis(30);
/// How many lines that are no messages `garbage` writes: more than anybody puts up with.
const STRAYS: usize = 200;
/// How much `flood` writes to the standard error output, in lines.
const NOISE: usize = 10_000;
/// How many of those who listen are told of changes; older ones have long gone.
const LISTENERS: usize = 64;

/// Serves until the input ends, or the process ends as it was asked to.
pub(crate) fn serve_stdio(era: Era) -> Result<(), Failure> {
    let mut asked = BTreeMap::new();
    let mut listeners = Vec::new();
    let mut passing = false;
    for line in io::stdin().lock().lines() {
        match deed(era, line?.as_bytes()) {
            Deed::Nothing | Deed::Hang => {}
            Deed::Answer(bytes) | Deed::Open(bytes) | Deed::Expire(bytes) => say(&[bytes])?,
            Deed::Ask(id, question, answer) => {
                asked.insert(id, answer);
                say(&[question])?;
            }
            Deed::Heard(id) => asked.remove(&id).map_or(Ok(()), |answer| say(&[answer]))?,
            Deed::List([without, with]) => say(&[if passing { with } else { without }])?,
            Deed::Listen(acknowledgement, id) => {
                listeners.truncate(LISTENERS - 1);
                listeners.insert(0, id);
                say(&[acknowledgement])?;
            }
            Deed::Tell(change, bytes) => {
                passing ^= change == Change::Tools;
                let told = match era {
                    Era::Legacy => vec![news(change, None)],
                    Era::Modern => listeners.iter().map(|id| news(change, Some(id))).collect(),
                };
                say(&told)?;
                say(&[bytes])?;
            }
            Deed::Count(messages) => count(messages),
            Deed::Flood(messages) => {
                (0..NOISE).for_each(|line| eprintln!("{line} lines of what nobody wants to know"));
                say(&messages)?;
            }
            Deed::Cut(bytes) => {
                let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                io::stdout().write_all(half)?;
                io::stdout().flush()?;
                return Err("it was asked to end".into());
            }
            Deed::Garbage => say(&vec![b"this is no message".to_vec(); STRAYS])?,
        }
    }
    Ok(())
}

/// Counts beside whatever else is asked meanwhile. If nobody hears it any more, the process ends anyway.
fn count(messages: Vec<Vec<u8>>) {
    thread::spawn(move || {
        messages.into_iter().try_for_each(|message| {
            thread::sleep(STEP);
            say(&[message])
        })
    });
}

fn say(messages: &[Vec<u8>]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for message in messages {
        output.write_all(message)?;
        output.write_all(b"\n")?;
    }
    output.flush()
}
