//! What the hub lives on is taken away: its database, the room on its disk.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::{Answer, call, list, send};
use crate::harness::database::standby::{Primary, Shutdown, Standby};
use crate::harness::notes::{assert_recorded, received};
use crate::harness::peer::{CredentialServer, Peer};
use crate::harness::relay::{Relay, Wire};
use crate::harness::{Database, Installation, Serving, eventually, eventually_within};

/// How soon the hub has to notice, and how soon to be back.
const NOTICED: Duration = Duration::from_secs(2);
const BACK: Duration = Duration::from_secs(5);

/// Is an installation whose server notes what reaches it.
struct Scene {
    installation: Installation,
    record: PathBuf,
    key: String,
    /// The notes whose calls were answered.
    answered: Mutex<Vec<String>>,
    _server: Peer,
}

impl Scene {
    fn set(installation: Installation) -> Self {
        let record = installation.folder().join("record.jsonl");
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", Some(&record));
        let file = json!({ "mcpServers": { "remote": { "url": server.url } } });
        installation.grant_all("alice", "remote", &file);
        let key = installation.key("alice");
        Self { installation, record, key, answered: Mutex::default(), _server: server }
    }

    fn serve(&self) -> Serving {
        let hub = self.installation.serve();
        list(hub.address, "/mcp", &self.key);
        hub
    }

    fn write(&self, hub: &Serving, text: &str) -> Answer {
        let answer = call(hub.address, "/mcp", &self.key, "remote__write_note", json!({ "text": text }));
        if answer.status == 200 {
            self.answered.lock().unwrap().push(text.to_owned());
        }
        answer
    }

    /// Checks that the log is whole, and that nothing is missing that was answered or reached the server.
    fn lost_nothing(&self, json: impl Fn(&str) -> Value) {
        assert_eq!(json("audit verify")["findings"], json!([]));
        let log = json("audit list --outcome intent --limit 100000");
        assert_recorded(&log, &*self.answered.lock().unwrap());
        assert_recorded(&log, &received(&self.record));
    }

    /// Takes the database away while calls are made, until all of them are refused.
    fn under_load(&self, hub: &Serving, name: &str, take_away: impl FnOnce()) {
        let answered = || self.answered.lock().unwrap().len();
        let (before, is_gone) = (answered(), AtomicBool::new(false));
        let is_refused = |text: &str| self.write(hub, text).status != 200 && is_gone.load(Ordering::Acquire);
        std::thread::scope(|scope| {
            for client in 0..4 {
                let one = move |number: &u32| is_refused(&format!("{name} {client}.{number}."));
                scope.spawn(move || (0..100_000).find(one).expect("it goes away at some time"));
            }
            eventually("calls are answered", || (answered() > before + 40).then_some(()));
            take_away();
            is_gone.store(true, Ordering::Release);
        });
    }

    fn is_received(&self, text: &str) -> bool {
        std::fs::read_to_string(&self.record).is_ok_and(|record| record.contains(text))
    }

    /// Checks that nothing is done while the log can't be written, and that the hub says so in time.
    fn is_refused(&self, hub: &Serving, text: &str) {
        let begin = Instant::now();
        let answer = self.write(hub, text);
        assert_eq!((answer.status, code(&answer)), (503, -31003), "{text}: {answer:?}");
        assert_eq!(ready(hub), 503, "{text}");
        assert!(begin.elapsed() < NOTICED, "{text}: {:?}", begin.elapsed());
        assert!(!self.is_received(text), "{text}: nothing unrecorded happens");
    }

    /// Checks that the hub works again by itself.
    fn is_back(&self, hub: &Serving, text: &str) {
        eventually_within(BACK, "service returns", || (ready(hub) == 200).then_some(()));
        assert_eq!(self.write(hub, text).json()["result"]["isError"], json!(false), "{text}");
        assert!(self.is_received(text));
    }
}

fn code(answer: &Answer) -> i64 {
    answer.json()["error"]["code"].as_i64().unwrap_or_default()
}

fn ready(hub: &Serving) -> u16 {
    send(hub.address, "GET", "/readyz", &[], "").status
}

#[test]
fn without_its_postgres_the_hub_does_nothing_and_comes_back() {
    let mut installation = Installation::new(Database::Postgres);
    let relay = Relay::before(&mut installation);
    let scene = Scene::set(installation);
    let hub = scene.serve();
    for wire in [Wire::Cut, Wire::Silent] {
        scene.is_back(&hub, &format!("before {wire:?}"));
        relay.make(wire);
        scene.is_refused(&hub, &format!("during {wire:?}"));
        scene.is_refused(&hub, &format!("still {wire:?}"));
        relay.make(Wire::Whole);
        scene.is_back(&hub, &format!("after {wire:?}"));
    }
    hub.stop();
    scene.lost_nothing(|line| scene.installation.json(line));
}

#[test]
fn connections_that_are_cut_in_the_middle_lose_nothing() {
    let mut installation = Installation::new(Database::Postgres);
    let relay = Relay::before(&mut installation);
    let scene = Scene::set(installation);
    let hub = scene.serve();
    let (mut done, mut refused) = (0, 0);
    for number in 0..60 {
        let text = format!("note {number}.");
        let answer = std::thread::scope(|scope| {
            let cutting = scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(number % 20 * 250));
                relay.make(Wire::Cut);
                relay.make(Wire::Whole);
            });
            let answer = scene.write(&hub, &text);
            cutting.join().unwrap();
            answer
        });
        if answer.status == 200 {
            assert!(scene.is_received(&text));
            done += 1;
        } else {
            assert_eq!(code(&answer), -31003, "{answer:?}");
            assert!(!scene.is_received(&text), "{text}");
            refused += 1;
        }
        eventually_within(BACK, "service returns", || (ready(&hub) == 200).then_some(()));
    }
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
    hub.stop();
    scene.lost_nothing(|line| scene.installation.json(line));
}

#[test]
fn a_postgres_that_is_restarted_is_waited_for() {
    let mut primary = Primary::start();
    let scene = Scene::set(Installation::on(&primary.url()));
    let hub = scene.serve();
    for how in [Shutdown::Fast, Shutdown::Immediate] {
        scene.is_back(&hub, &format!("before {how:?}"));
        scene.under_load(&hub, &format!("as it stops, {how:?}"), || primary.stop(how));
        scene.is_refused(&hub, &format!("after {how:?}"));
        primary.start_again();
        scene.is_back(&hub, &format!("again after {how:?}"));
    }
    hub.stop();
    scene.lost_nothing(|line| scene.installation.json(line));
}

#[test]
fn a_postgres_that_moves_is_followed_with_everything_that_was_acknowledged() {
    let primary = Primary::start();
    let mut installation = Installation::on(&primary.url());
    let relay = Relay::before(&mut installation);
    let scene = Scene::set(installation);
    let standby = Standby::of(&primary);
    let hub = scene.serve();
    scene.is_back(&hub, "on the first");
    scene.under_load(&hub, "as it dies", || primary.kill());
    scene.is_refused(&hub, "between the two");
    standby.promote();
    relay.lead_to(standby.address());
    scene.is_back(&hub, "on the second");
    hub.stop();
    scene.lost_nothing(|line| scene.installation.json(line));
}

#[test]
fn on_a_full_disk_the_hub_does_nothing_and_comes_back() {
    let scene = Scene::set(Installation::new(Database::Sqlite));
    let hub = scene.installation.serve_on_disk("size=12m");
    list(hub.address, "/mcp", &scene.key);
    scene.is_back(&hub, "with room");
    let disk = Path::new("/proc").join(hub.id().to_string()).join("root");
    let disk = disk.join(scene.installation.data_dir().strip_prefix("/").unwrap());
    let filler = disk.join("filler");
    fill(&filler);
    // What the write-ahead log has room for is still done, and recorded.
    let full = (0..5_000).find(|number| scene.write(&hub, &format!("filling {number}.")).status != 200);
    let full = full.expect("the disk is full at some time");
    assert!(!scene.is_received(&format!("filling {full}.")));
    scene.is_refused(&hub, "on a full disk");
    std::fs::remove_file(&filler).unwrap();
    scene.is_back(&hub, "with room again");
    scene.lost_nothing(|line| scene.installation.json_beside(&hub, line));
    hub.stop();
}

/// While a hub has its files open the kernel lets no disk become one that only reads, so it starts on one.
#[test]
fn on_a_disk_that_only_reads_the_hub_says_what_is_wrong() {
    let scene = Scene::set(Installation::new(Database::Sqlite));
    let output = scene.installation.try_serve_on_disk("size=12m", "-o remount,ro");
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("read-only") || error.contains("Read-only"), "{error}");
    scene.is_back(&scene.serve(), "on a disk that writes");
}

/// Fills the disk that a file lies on.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut size = 1 << 16;
    while size > 0 {
        if file.write_all(&vec![7; size]).is_err() {
            size /= 2;
        }
    }
}
