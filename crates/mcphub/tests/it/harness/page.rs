//! Tables in the documents that a test run writes, and that every other run compares.

use std::path::Path;

/// Holds what stands between a page's two marks against what a run has found; where the environment says
/// `MCPHUB_TEST_PAGES=write`, writes that there instead.
pub(crate) fn settle(page: &str, [begin, end]: [&str; 2], found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(begin).expect("the page has a place for it");
    let (stands, after) = rest.split_once(end).expect("the place has an end");
    if std::env::var("MCPHUB_TEST_PAGES").is_ok_and(|how| how == "write") {
        std::fs::write(&path, [before, begin, found, end, after].concat()).unwrap();
    } else {
        assert!(
            stands == found,
            "docs/{page} says otherwise: set MCPHUB_TEST_PAGES=write to write what was found\n{found}"
        );
    }
}
