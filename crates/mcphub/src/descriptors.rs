//! How many files and connections the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What everything but clients' connections needs at most: pipes of processes, servers, the database.
const OWN: u64 = 2_048;

/// Raises the process's limit to the highest that it may have, and returns how many clients that lets in.
///
/// Most systems begin with 1,024, for programs that the hub is not one of.
pub(crate) fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = &raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let limit = if raised.is_ok() { maximum } else { current };
    limit.map_or(usize::MAX, clients)
}

/// Leaves what the hub itself needs, and with a low limit half of it.
fn clients(limit: u64) -> usize {
    usize::try_from(limit - OWN.min(limit / 2)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::clients;

    #[test]
    fn clients_get_what_the_hub_does_not_need() {
        let limits = [200, 1_024, 4_096, 20_000, 1 << 20];
        assert_eq!(limits.map(clients), [100, 512, 2_048, 17_952, (1 << 20) - 2_048]);
    }
}
