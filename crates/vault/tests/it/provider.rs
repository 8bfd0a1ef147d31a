//! Where keys come from.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use mcphub_domain::random::Entropy;
use mcphub_domain::secret::SecretText;
use mcphub_vault::provider::{EnvProvider, FileProvider, KeyFault, Provider, ProviderError};
use mcphub_vault::{Vault, WrapKeyId};
use tempfile::TempDir;

use super::install;

/// Makes a folder, and in it a key file of which the lines are known.
fn key_file() -> (TempDir, PathBuf, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.key");
    FileProvider::create(path.clone(), &Entropy::fixed(1)).ok().unwrap();
    let lines = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    (folder, path, lines)
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    if path.exists() {
        fs::remove_file(path).unwrap();
    }
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
}

fn load(path: &Path) -> Result<WrapKeyId, ProviderError> {
    let keyring = Provider::File(FileProvider::new(path.into())).load()?;
    Ok(Vault::new(install(1), keyring).current_key())
}

fn fault(content: impl AsRef<[u8]>) -> KeyFault {
    let (_folder, path, _) = key_file();
    write(&path, content);
    match load(&path) {
        Err(ProviderError::Malformed { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

fn env(value: &str) -> Result<WrapKeyId, ProviderError> {
    let keyring = Provider::Env(EnvProvider::new(SecretText::new(value.into()))).load()?;
    Ok(Vault::new(install(1), keyring).current_key())
}

#[test]
fn a_new_key_file_is_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config/mcphub/hub.key");
    let provider = FileProvider::create(path.clone(), &Entropy::fixed(1)).ok().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&path), 0o400);
    assert_eq!(mode(&folder.path().join("config/mcphub")), 0o700);
    assert_eq!(mode(&folder.path().join("config")), 0o700);
    assert!(provider.load().is_ok());
    assert_eq!(load(&path).unwrap(), load(&path).unwrap());
}

#[test]
fn a_key_file_is_never_overwritten() {
    let (_folder, path, lines) = key_file();
    let again = FileProvider::create(path.clone(), &Entropy::fixed(2));
    assert!(matches!(again, Err(ProviderError::Exists { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap().lines().collect::<Vec<_>>(), lines);
}

/// Many start at once: all but one find the file there, whole, and nobody leaves a draft behind.
#[test]
fn of_many_that_create_a_key_file_one_does_and_nobody_sees_half_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config/hub.key");
    let (start, entropy) = (std::sync::Barrier::new(16), |seed| Entropy::fixed(seed));
    let (created, ids): (Vec<bool>, Vec<_>) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|seed| {
                let (start, path) = (&start, &path);
                scope.spawn(move || {
                    start.wait();
                    let created = match FileProvider::create(path.clone(), &entropy(seed)) {
                        Ok(_) => true,
                        Err(ProviderError::Exists { .. }) => false,
                        Err(error) => panic!("{error}"),
                    };
                    (created, load(path).unwrap())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).unzip()
    });
    assert_eq!(created.iter().filter(|created| **created).count(), 1);
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a draft is left");
}

#[test]
fn a_link_is_not_followed_when_a_key_file_is_created() {
    let (folder, _, _) = key_file();
    let link = folder.path().join("link");
    symlink(folder.path().join("elsewhere"), &link).unwrap();
    let created = FileProvider::create(link, &Entropy::fixed(2));
    assert!(matches!(created, Err(ProviderError::Exists { .. })));
    assert!(!folder.path().join("elsewhere").exists());
}

#[test]
fn nobody_but_the_owner_may_have_rights() {
    let (_folder, path, _) = key_file();
    for mode in 0..0o1000 {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let readable = mode & 0o400 != 0;
        match load(&path) {
            Ok(_) => assert_eq!(mode & 0o077, 0, "{mode:04o}"),
            Err(ProviderError::Exposed { mode: told, .. }) => {
                assert!(told == mode && mode & 0o077 != 0, "{mode:04o}");
            }
            // Root reads a file without any rights; another user can't open it.
            Err(ProviderError::Io { .. }) => assert!(!readable, "{mode:04o}"),
            Err(error) => panic!("{mode:04o}: {error}"),
        }
    }
}

#[test]
fn the_error_says_which_command_repairs_the_mode() {
    let (_folder, path, _) = key_file();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("mode 0640") && error.contains(&format!("chmod 400 {path:?}")), "{error}");
}

#[test]
fn a_key_file_of_another_user_is_refused() {
    let (_folder, path, _) = key_file();
    let stranger = fs::metadata(&path).unwrap().uid() + 1;
    match chown(&path, Some(stranger), None) {
        Ok(()) => assert!(
            matches!(load(&path), Err(ProviderError::ForeignOwner { owner, .. }) if owner == stranger)
        ),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "only root gives files away");
        }
    }
}

#[test]
fn a_missing_key_file_is_told_from_a_bad_one() {
    let (folder, _, _) = key_file();
    let missing = load(&folder.path().join("other.key"));
    assert!(matches!(missing, Err(ProviderError::Missing { .. })));
}

#[test]
fn only_a_regular_file_is_a_key_file() {
    let (folder, path, _) = key_file();
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [folder.path(), &link, &pipe, &socket, Path::new("/dev/zero")] {
        assert!(matches!(load(path), Err(ProviderError::NotAFile { .. })), "{path:?}");
    }
}

#[test]
fn the_first_key_is_current_and_the_others_still_open() {
    let (_folder, path, lines) = key_file();
    let old = Vault::new(install(1), FileProvider::new(path.clone()).load().ok().unwrap());
    let sealed = old.seal(&super::place(None), b"a token", &Entropy::fixed(9)).unwrap();
    let newer = "0f1e2d3c4b5a69788796a5b4c3d2e1f00123456789abcdef1122334455667788";
    write(&path, format!("mcphub-key-v1\n{newer}\n{}\n", lines.last().unwrap()));
    let vault = Vault::new(install(1), FileProvider::new(path).load().ok().unwrap());
    assert_eq!(vault.current_key(), env(newer).unwrap());
    assert_ne!(vault.current_key(), sealed.key_id());
    assert_eq!(vault.open(&super::place(None), &sealed).ok().unwrap().expose(), b"a token");
}

#[test]
fn a_damaged_key_file_is_refused() {
    let (_folder, _, lines) = key_file();
    let key = lines.last().unwrap();
    let short = key.split_at(63).0;
    assert_eq!(fault(""), KeyFault::Header);
    assert_eq!(fault(key), KeyFault::Header);
    assert_eq!(fault(format!("mcphub-key-v2\n{key}\n")), KeyFault::Header);
    assert_eq!(fault([0xff; 32]), KeyFault::Header);
    assert_eq!(fault("mcphub-key-v1\n"), KeyFault::Empty);
    assert_eq!(fault(format!("mcphub-key-v1\n{short}\n")), KeyFault::NotAKey { number: 1 });
    assert_eq!(fault(format!("mcphub-key-v1\n{key}0\n")), KeyFault::NotAKey { number: 1 });
    assert_eq!(fault(format!("mcphub-key-v1\n{key}\n\n")), KeyFault::NotAKey { number: 2 });
    assert_eq!(fault(format!("mcphub-key-v1\n{}\n", "00".repeat(32))), KeyFault::Weak { number: 1 });
    assert_eq!(fault(format!("mcphub-key-v1\n{}", "x".repeat(8192))), KeyFault::TooLong);
}

/// A file that was cut anywhere must not load as another keyring.
#[test]
fn a_cut_key_file_is_refused() {
    let (_folder, path, _) = key_file();
    let content = fs::read(&path).unwrap();
    for length in 0..content.len() - 1 {
        fault(content.split_at(length).0);
    }
}

#[test]
fn an_error_never_quotes_the_file() {
    let (_folder, path, lines) = key_file();
    let short = lines.last().unwrap().split_at(60).0;
    write(&path, format!("mcphub-key-v1\n{short}\n"));
    let error = load(&path).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(short), "{error}");
}

#[test]
fn the_environment_holds_keys_with_commas_between_them() {
    let (_folder, path, lines) = key_file();
    let key = lines.last().unwrap();
    let newer = "0f1e2d3c4b5a69788796a5b4c3d2e1f00123456789abcdef1122334455667788";
    assert_eq!(env(key).unwrap(), load(&path).unwrap());
    assert_eq!(env(&format!("{newer},{key}")).unwrap(), env(newer).unwrap());
    for bad in ["", "changeme", &format!("{key},"), &format!(" {key}"), &"ab".repeat(32)] {
        assert!(matches!(env(bad), Err(ProviderError::BadValue { .. })), "{bad:?}");
    }
}
