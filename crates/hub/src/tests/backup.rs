//! What only shows inside a backup: what is in it, and what is refused of one that somebody made up.

use std::io::{Read, Write};
use std::path::Path;

use mcphub_domain::{Clock, Entropy, SecretText, Timestamp};
use mcphub_store::{DatabaseUrls, Place};
use mcphub_vault::{Identities, Recipient, decrypt, encrypt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::web::Web;
use super::{House, answer};
use crate::restore::{Elsewhere, Restored, Rollback, Target, Terms, restore};
use crate::{HubError, KeySource};

/// A key pair that `age-keygen` could have made, for these tests alone.
const PUBLIC: &str = "age1dy7ktrvx46yrhektwn2ejgexm8zyfg2lfrth2a60f84tdhsjs36sflxgjc";
const PRIVATE: &str = "AGE-SECRET-KEY-1KMCT5TR5QX85WALSX0U4XSKENNDZLGGM7F0K9GZFA9UY8EXJ4JKQ7VQCTA";

fn identities() -> Identities {
    Identities::parse(&SecretText::new(PRIVATE.to_owned())).unwrap()
}

fn recipient() -> Recipient {
    PUBLIC.parse().unwrap()
}

/// Makes a house with alice and her token, and its backup.
async fn backed_up() -> (House, Vec<u8>) {
    let house = House::open().await;
    let web = Web::start(answer).await;
    let (server, (alice, _)) = (house.server("github", &web).await, house.person("alice").await);
    house.set_token(&alice, &server, "the planted token").await;
    let mut backup = Vec::new();
    house.hub.backup(&house.hub.operator(), &recipient(), &mut backup).await.unwrap();
    (house, backup)
}

/// Restores beside the house's own data, with its key or that of a folder, in its stead.
async fn restored(house: &House, keys: &Path, backup: &[u8]) -> Result<Restored, HubError> {
    restored_if(house, keys, backup, Elsewhere::TakenOver).await
}

async fn restored_if(
    house: &House,
    keys: &Path,
    backup: &[u8],
    elsewhere: Elsewhere,
) -> Result<Restored, HubError> {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { data_dir: folder.path().join("data"), database: DatabaseUrls::Sqlite };
    let heads = house.folder.path().join("heads");
    let target = Target { place, key: KeySource::Folder(keys.to_owned()), heads };
    let clock = Clock::new(|| Timestamp::from_micros(1_795_000_000_000_001));
    let terms = Terms { rollback: Rollback::Refused, elsewhere };
    restore(target, &identities(), backup, terms, (clock, Entropy::fixed(8))).await
}

fn lines(backup: &[u8]) -> Vec<String> {
    let mut text = String::new();
    decrypt(&identities(), backup).unwrap().read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Makes a backup of other lines, with a manifest whose hash and counts fit them.
fn forged(mut lines: Vec<String>) -> Vec<u8> {
    let mut manifest: Value = serde_json::from_str(&lines.pop().unwrap()).unwrap();
    let body: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    manifest["manifest"]["sha256"] = json!(hex::encode(Sha256::digest(body.as_bytes())));
    let mut stream = encrypt(&recipient(), Vec::new()).unwrap();
    stream.write_all(format!("{body}{manifest}\n").as_bytes()).unwrap();
    stream.finish().unwrap()
}

fn keys(house: &House) -> std::path::PathBuf {
    house.folder.path().join("keys")
}

#[tokio::test]
async fn a_backup_holds_everything_but_secrets() {
    let (house, backup) = backed_up().await;
    let text = lines(&backup).join("\n");
    assert!(text.contains("alice") && text.contains("github") && text.contains("audit_segments"));
    let file = std::fs::read_dir(keys(&house)).unwrap().next().unwrap().unwrap().path();
    let key = std::fs::read_to_string(file).unwrap().lines().nth(1).unwrap().to_owned();
    for secret in ["the planted token", key.as_str()] {
        assert!(!text.contains(secret));
        assert!(!text.contains(&hex::encode(secret)));
    }
    let restored = restored(&house, &keys(&house), &backup).await.unwrap();
    assert_eq!(restored.lost, [""; 0], "it is as new as the signed heads");
    assert_eq!(restored.manifest.rows["credentials"], 1);
}

#[tokio::test]
async fn an_installation_that_is_kept_elsewhere_is_restored_only_in_its_stead() {
    let (house, backup) = backed_up().await;
    let from = house.folder.path().join("data/mcphub.db");
    let error =
        restored_if(&house, &keys(&house), &backup, Elsewhere::Refused).await.unwrap_err().to_string();
    for part in [from.to_str().unwrap(), "MCPHUB_AUDIT__HEADS_DIR", "--take-over"] {
        assert!(error.contains(part), "{error}");
    }
    restored_if(&house, &keys(&house), &backup, Elsewhere::TakenOver).await.unwrap();
    std::fs::remove_file(from).unwrap();
    restored_if(&house, &keys(&house), &backup, Elsewhere::Refused).await.unwrap();
}

#[tokio::test]
async fn what_somebody_made_up_is_refused() {
    let (house, backup) = backed_up().await;
    let whole = lines(&backup);
    assert!(restored(&house, &keys(&house), &forged(whole.clone())).await.is_ok(), "nothing is changed yet");
    let promoted: Vec<String> = whole
        .iter()
        .map(|line| line.replace("\"alice\",null,\"user\"", "\"alice\",null,\"admin\""))
        .collect();
    assert_ne!(promoted, whole);
    let error = restored(&house, &keys(&house), &forged(promoted)).await.unwrap_err().to_string();
    assert!(error.contains("not signed by the installation"), "{error}");
    let mut swapped = whole.clone();
    swapped[2] = whole[2].replace("179", "178");
    assert_ne!(swapped, whole);
    for forgery in [
        swapped,
        whole[..whole.len() - 1].to_vec(),
        whole[1..].to_vec(),
        Vec::new(),
        [&whole[..], &whole[1..2]].concat(),
    ] {
        let text: String = forgery.iter().flat_map(|line| [line, "\n"]).collect();
        let mut stream = encrypt(&recipient(), Vec::new()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let error = restored(&house, &keys(&house), &stream.finish().unwrap()).await.unwrap_err();
        assert!(matches!(error, HubError::Invalid(_)), "{error}");
    }
    let newer = forged([vec![whole[0].replace("\"schema\":", "\"schema\":1")], whole[1..].to_vec()].concat());
    let error = restored(&house, &keys(&house), &newer).await.unwrap_err().to_string();
    assert!(error.contains("restore it with the version that made it"), "{error}");
}

#[tokio::test]
async fn no_changed_byte_and_no_cut_is_restored() {
    let (house, backup) = backed_up().await;
    for at in (0..backup.len()).step_by(backup.len() / 40).chain(backup.len() - 5..backup.len()) {
        let mut changed = backup.clone();
        changed[at] ^= 1;
        assert!(restored(&house, &keys(&house), &changed).await.is_err(), "byte {at}");
        assert!(restored(&house, &keys(&house), &backup[..at]).await.is_err(), "cut at {at}");
    }
}

#[tokio::test]
async fn without_the_key_nothing_is_restored() {
    let (house, backup) = backed_up().await;
    let empty = tempfile::tempdir().unwrap();
    let error = restored(&house, empty.path(), &backup).await.unwrap_err().to_string();
    assert!(error.contains("there is no key file"), "{error}");
    let other = House::open_with(9).await;
    let (mine, theirs) = (file_in(&keys(&house)), file_in(&keys(&other)));
    std::fs::copy(theirs, empty.path().join(mine.file_name().unwrap())).unwrap();
    let error = restored(&house, empty.path(), &backup).await.unwrap_err().to_string();
    assert!(error.contains("which the hub does not hold"), "{error}");
}

#[tokio::test]
async fn nobody_but_the_operator_makes_one() {
    let house = House::open().await;
    let (_, alice) = house.person("alice").await;
    let mut backup = Vec::new();
    let refused = house.hub.backup(&alice, &recipient(), &mut backup).await;
    assert!(matches!(refused, Err(HubError::Denied(_))), "{refused:?}");
    assert!(backup.is_empty());
}

fn file_in(folder: &Path) -> std::path::PathBuf {
    std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}
