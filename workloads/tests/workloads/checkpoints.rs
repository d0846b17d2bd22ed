//! A checkpoint of windows as text: what is written is read again, and what was damaged on the way is refused.
//!
//! Stands here and not beside the windows because their crate writes nothing.

use brokerlab_model::windows::{Checkpoint, Event, WindowKind, WindowOptions, WindowOutput, Windows};
use brokerlab_model::{LaneId, Span, Time};

fn windows(kind: WindowKind) -> Windows {
    let mut windows = Windows::new(WindowOptions::new(kind)).unwrap();
    let mut out = WindowOutput::default();
    for (time, key, value) in [(1, b"a", 1), (3, b"b", i64::MAX), (40, b"a", i64::MIN), (44, b"a", i64::MIN)] {
        windows.observe(&Event { lane: LaneId(0), time: Time(time), key, value }, &mut out).unwrap();
    }
    windows
}

#[test]
fn a_checkpoint_is_read_as_it_was_written() {
    let (size, slide) = (Span(20), Span(5));
    for kind in [WindowKind::Tumbling { size }, WindowKind::Sliding { size, slide }, WindowKind::Session { gap: size }]
    {
        let windows = windows(kind);
        let text = serde_json::to_string(&windows.checkpoint()).unwrap();
        let read: Checkpoint = serde_json::from_str(&text).unwrap();
        assert_eq!(read, windows.checkpoint());
        assert_eq!(Windows::restore(&read), Ok(windows));
    }
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let windows = windows(WindowKind::Session { gap: Span(10) });
    let text = serde_json::to_string(&windows.checkpoint()).unwrap();
    let damage = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} in {text}");
        let checkpoint: Checkpoint = serde_json::from_str(&text.replacen(from, to, 1)).unwrap();
        Windows::restore(&checkpoint).err()
    };
    assert_eq!(damage("\"start\"", "\"start\""), None);
    let bad = [
        ("\"gap\":10", "\"gap\":0"),
        ("\"lanes\":1", "\"lanes\":2"),
        ("\"holder\":0", "\"holder\":1"),
        ("\"start\":40", "\"start\":45"),
        ("\"shown\":false", "\"shown\":true"),
        ("\"keys\":[[97]", "\"keys\":[[97],[97]"),
        ("\"key\":0", "\"key\":1"),
        ("\"session\",\"gap\":10", "\"tumbling\",\"size\":10"),
    ];
    for (from, to) in bad {
        assert!(damage(from, to).is_some(), "{from} as {to}");
    }
}
