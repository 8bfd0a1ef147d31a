//! What a process used: processor time and memory, as the kernel counts them.

use std::fs;
use std::time::Duration;

use crate::Failure;

/// Clock ticks a second, which Linux fixes for `/proc`.
const TICKS: u64 = 100;

/// Returns the processor time that a process used so far, user and system.
pub(crate) fn processor(process: u32) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("an unknown form of /proc/PID/stat")?;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Returns the resident memory of a process in bytes.
pub(crate) fn memory(process: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// Names the machine in one line: processor, cores, memory, kernel.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processors = read("/proc/cpuinfo");
    let model = value(&processors, "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
    let memory = value(&read("/proc/meminfo"), "MemTotal").and_then(|text| {
        let kilobytes: u64 = text.trim_end_matches(" kB").parse().ok()?;
        Some(kilobytes.div_ceil(1024 * 1024))
    });
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, {} GiB, Linux {}", memory.unwrap_or_default(), kernel.trim())
}
