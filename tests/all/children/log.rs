//! What the audit log says of children.

use serde_json::Value;

use super::*;
use crate::embedder::logged;
use crate::support::{block_on, is_alone};

// Alone: what `tracing` remembers of who listens is shared by all threads of a process.
#[test]
fn the_audit_log_tells_who_started_whom() {
    if is_alone("children::log::the_audit_log_tells_who_started_whom", &[]) {
        block_on(tell());
    }
}

async fn tell() {
    let mut vats = (0, 0);
    let terms = SpawnerTerms::new()
        .program("seven", &plain("(i32.const 7)"))
        .program("spin", &spin());
    let log = logged(async {
        let (mut guest, _net, _spawner) = parent(terms, Limits::default()).await;
        vats.0 = guest.handle().id();
        guest.prepare(CHILD, "seven").await.unwrap();
        guest.start_child(CHILD).await.unwrap();
        guest.wait_for(CHILD, 0).await.unwrap();
        guest.prepare(4, "spin").await.unwrap();
        guest.start_child(4).await.unwrap();
        guest.stop_child(4).await.unwrap();
        assert_eq!(guest.prepare(5, "eight").await, Err(ErrorCode::NotFound));
    })
    .await;
    let events: Vec<Value> = log
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let about_children = ["spawn", "begin", "stop", "exit"];
    let story: Vec<_> = events
        .iter()
        .filter(|event| about_children.contains(&event["event"].as_str().unwrap()))
        .collect();
    let words: Vec<_> = story
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        words,
        ["spawn", "begin", "exit", "spawn", "begin", "stop", "exit"]
    );
    for event in &story {
        assert_eq!(event["vat"].as_u64(), Some(vats.0), "{event}");
    }
    let [first, second] = [0, 3].map(|index| &story[index]);
    assert_eq!(
        (&first["program"], &first["label"]),
        (&"seven".into(), &"spawner/seven".into())
    );
    vats.1 = first["child"].as_u64().unwrap();
    assert!(vats.1 != vats.0 && second["child"] != first["child"]);
    // Each child is named by its vat and by its Child, which the log saw derived.
    for (event, of) in story
        .iter()
        .zip([first, first, first, second, second, second, second])
    {
        assert_eq!((&event["child"], &event["id"]), (&of["child"], &of["id"]));
        let derived =
            |other: &Value| other["event"] == "derive" && other["id"] == of["id"] && other["kind"] == "Child";
        assert_eq!(events.iter().filter(|other| derived(other)).count(), 1);
    }
    let [exited, stopped] = [2, 6].map(|index| &story[index]);
    assert_eq!(
        (&exited["how"], exited["code"].as_i64()),
        (&"exited".into(), Some(7))
    );
    assert_eq!(exited["why"], "it exited with code 7");
    assert_eq!(
        (&stopped["how"], &stopped["code"]),
        (&"stopped".into(), &Value::Null)
    );
    let refused = events.iter().find(|event| event["event"] == "refuse").unwrap();
    assert_eq!(refused["import"], "spawner_program");
}
