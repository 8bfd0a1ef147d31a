//! Who ends servers while they are needed, and starts them again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::dice::Dice;
use super::gauge::mortals_below;
use crate::Failure;
use crate::stage::{Actor, free_address};

/// How long the reaper waits between two deeds, at least and at most, in milliseconds.
const PAUSE: (u64, u64) = (400, 1_200);
/// How long a server is gone, and how long it is held.
const GONE: Duration = Duration::from_millis(300);
const HELD: Duration = Duration::from_secs(2);

/// Is what the reaper does.
enum Deed {
    /// Kills a process below the hub.
    Process,
    /// Kills a server over HTTP, and starts it again.
    Kill,
    /// Holds a server over HTTP for a while.
    Hold,
}

/// What the reaper does, again and again.
const DEEDS: [Deed; 6] = [Deed::Process, Deed::Kill, Deed::Process, Deed::Hold, Deed::Process, Deed::Kill];

/// Is a server over HTTP that can be ended and started again at its address.
pub(super) struct Victim {
    era: &'static str,
    /// Where it listens.
    pub(super) address: SocketAddr,
    running: Option<Actor>,
}

/// Counts what was done to servers.
#[derive(Clone, Copy, Default)]
pub(super) struct Deaths {
    /// Servers over HTTP that were killed and started again.
    pub(super) killed: u64,
    /// Those that were held for a while, and then let go on.
    pub(super) held: u64,
    /// Processes below the hub that were killed.
    pub(super) processes: u64,
}

impl Deaths {
    /// Adds all of another one.
    pub(super) const fn add(&mut self, other: &Self) {
        self.killed += other.killed;
        self.held += other.held;
        self.processes += other.processes;
    }
}

impl Victim {
    /// Starts a server of an era.
    pub(super) fn start(era: &'static str) -> Result<Self, Failure> {
        let mut victim = Self { era, address: free_address()?, running: None };
        victim.run()?;
        Ok(victim)
    }

    fn run(&mut self) -> Result<(), Failure> {
        self.running = None;
        self.running = Some(Actor::part_at("mortal", self.address, &["--era", self.era])?);
        Ok(())
    }
}

/// Does one thing after the other to the servers until it is over; in the end all of them run.
pub(super) fn reap(hub: u32, victims: &mut [Victim], over: &AtomicBool) -> Result<Deaths, Failure> {
    let (mut deaths, mut dice) = (Deaths::default(), Dice::new(0));
    for deed in DEEDS.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let count = victims.len() as u64;
        let chosen = victims.get_mut(dice.below(count.max(1)) as usize).ok_or("nobody to end")?;
        match deed {
            Deed::Process => deaths.processes += u64::from(kill_below(hub, &mut dice)?),
            Deed::Kill => {
                chosen.running = None;
                thread::sleep(GONE);
                chosen.run()?;
                deaths.killed += 1;
            }
            Deed::Hold => {
                let held = chosen.running.as_ref().ok_or("it doesn't run")?.id();
                send(held, Signal::STOP)?;
                thread::sleep(HELD);
                send(held, Signal::CONT)?;
                deaths.held += 1;
            }
        }
        let (least, most) = PAUSE;
        thread::sleep(Duration::from_millis(least + dice.below(most - least)));
    }
    Ok(deaths)
}

/// Kills one of the processes below the hub that may be killed, if there is one.
fn kill_below(hub: u32, dice: &mut Dice) -> Result<bool, Failure> {
    let below = mortals_below(hub)?;
    let Some(&chosen) = below.get(dice.below(below.len().max(1) as u64) as usize) else { return Ok(false) };
    // It may have ended by itself a moment ago.
    Ok(send(chosen, Signal::KILL).is_ok())
}

fn send(process: u32, signal: Signal) -> Result<(), Failure> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or("no process has this id")?;
    Ok(kill_process(process, signal)?)
}
