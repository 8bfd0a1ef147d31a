//! The process between the hub and a child.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::harness::{child_program, is_alive, until};

/// Starts a supervisor as a hub would, tells its process id, and waits.
const PARENT: &str = r"
import os, subprocess, sys
program, script = sys.argv[1:3]
child = subprocess.Popen([program, '__child', '--parent', str(os.getpid()), '--', 'sh', '-c', script], stdin=subprocess.PIPE)
sys.stdin.read()
";

#[tokio::test]
async fn a_killed_hub_leaves_no_orphan() {
    let script = "sleep 1000 & echo $!; (setsid sleep 1000 & echo $!); trap '' TERM; echo $$; sleep 1000";
    let mut parent = Command::new("python3")
        .args(["-c", PARENT])
        .arg(child_program())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let pids: Vec<u64> = lines.take(3).map(|line| line.unwrap().parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the whole tree is gone", || !pids.iter().any(|pid| is_alive(*pid))).await;
}

#[test]
fn the_exit_code_is_the_command_s() {
    let status = run(std::process::id(), &["sh", "-c", "exit 7"]);
    assert_eq!(status, Some(7));
}

#[test]
fn a_command_s_leftovers_end_with_it() {
    let output = Command::new(child_program())
        .args(["__child", "--parent", &std::process::id().to_string(), "--"])
        .args(["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"])
        .output()
        .unwrap();
    let pid: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(!is_alive(pid));
}

#[test]
fn nothing_starts_for_a_parent_that_is_not_one() {
    assert_eq!(run(1, &["sh", "-c", "exit 7"]), Some(126));
}

fn run(parent: u32, command: &[&str]) -> Option<i32> {
    let mut child = Command::new(child_program());
    child.args(["__child", "--parent", &parent.to_string(), "--"]).args(command).status().unwrap().code()
}
