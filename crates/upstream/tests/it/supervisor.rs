//! The process between the hub and a child.

use std::process::{Command, Stdio};

use mcphub_upstream::rehearse;

use crate::harness::{Hub, child_program, confinement, is_alive, until};

/// Starts a supervisor as a hub would, tells its process id, and waits.
const PARENT: &str = r"
import os, subprocess, sys
program, confinement, script = sys.argv[1:4]
child = subprocess.Popen([program, '__child', 'supervise', str(os.getpid()), confinement, 'sh', '-c', script], stdin=subprocess.PIPE)
sys.stdin.read()
";

/// Starts a hub, a supervisor and a tree that holds on in every way, and kills the hub.
async fn a_killed_hub_leaves_no_orphan(confinement: &str, mark: &str) {
    let script = format!(
        "trap '' TERM; sleep {mark} & (setsid sleep {mark} &); (setsid sh -c '(sleep {mark} &)' &); sleep {mark}"
    );
    let mut parent = Command::new("python3")
        .args(["-c", PARENT])
        .arg(child_program())
        .args([confinement, &script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    until("the tree runs", || sleeping(mark) == 4).await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the whole tree is gone", || sleeping(mark) == 0).await;
}

/// Counts the processes that sleep so long.
fn sleeping(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap();
    let lines = processes.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.filter(|line| *line == format!("sleep\0{mark}\0").into_bytes()).count()
}

#[tokio::test]
async fn a_killed_hub_leaves_no_orphan_of_a_free_child() {
    a_killed_hub_leaves_no_orphan("off", &format!("1000.1{}", std::process::id())).await;
}

#[tokio::test]
async fn a_killed_hub_leaves_no_orphan_of_a_confined_child() {
    for (number, namespaces) in ["required", "off"].into_iter().enumerate() {
        let home = tempfile::tempdir().unwrap();
        let confinement = confinement(home.path(), namespaces).to_string();
        a_killed_hub_leaves_no_orphan(&confinement, &format!("1000.2{number}{}", std::process::id())).await;
    }
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_confined_child_with_it() {
    for (number, namespaces) in ["required", "off"].into_iter().enumerate() {
        let (home, mark) = (tempfile::tempdir().unwrap(), format!("1000.3{number}{}", std::process::id()));
        let mut supervisor = Command::new(child_program())
            .args(["__child", "supervise", &std::process::id().to_string()])
            .arg(confinement(home.path(), namespaces).to_string())
            .args(["sh", "-c", &format!("(setsid sleep {mark} &); sleep {mark}")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        until("the tree runs", || sleeping(&mark) == 2).await;
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
        until("the whole tree is gone", || sleeping(&mark) == 0).await;
    }
}

#[test]
fn the_exit_code_is_the_command_s() {
    let status = run(std::process::id(), &["sh", "-c", "exit 7"]);
    assert_eq!(status, Some(7));
}

#[test]
fn a_command_s_leftovers_end_with_it() {
    let output = Command::new(child_program())
        .args(["__child", "supervise", &std::process::id().to_string(), "off"])
        .args(["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"])
        .output()
        .unwrap();
    let pid: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_command_s_leftovers_end_though_nobody_hears_how_it_ended() {
    let mark = format!("1000.4{}", std::process::id());
    let mut supervisor = Command::new(child_program())
        .args(["__child", "supervise", &std::process::id().to_string(), "off"])
        .args(["sh", "-c", &format!("sleep {mark} & read line; exit 3")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the tree runs", || sleeping(&mark) == 1).await;
    drop((supervisor.stderr.take(), supervisor.stdin.take()));
    assert_eq!((supervisor.wait().unwrap().code(), sleeping(&mark)), (Some(3), 0));
}

#[test]
fn nothing_starts_for_a_parent_that_is_not_one() {
    assert_eq!(run(1, &["sh", "-c", "exit 7"]), Some(126));
}

fn run(parent: u32, command: &[&str]) -> Option<i32> {
    let mut child = Command::new(child_program());
    child.args(["__child", "supervise", &parent.to_string(), "off"]).args(command).status().unwrap().code()
}

#[tokio::test]
async fn a_rehearsal_says_what_is_missing_and_not_how_it_ended() {
    let hub = Hub::start();
    let said = rehearse(hub.upstreams.settings()).await.unwrap();
    assert!(!said.iter().any(|line| line.contains("ended")), "{said:?}");
}
