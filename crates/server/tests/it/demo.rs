//! The demo passes, and fails when a part of it is taken away.

use std::time::{Duration, Instant};

use posthouse::demo::{Part, run};

#[tokio::test]
async fn the_demo_passes() {
    run(None).await.unwrap();
}

#[tokio::test]
async fn the_demo_needs_each_of_its_parts() {
    for part in [Part::Server, Part::Log, Part::Harness, Part::Provider] {
        let begun = Instant::now();
        let error =
            run(Some(part)).await.err().unwrap_or_else(|| panic!("passed without {part:?}"));
        println!("without {part:?}: {}", error.with_causes());
        assert!(begun.elapsed() < Duration::from_secs(10), "{part:?} took too long to be missed");
    }
}
