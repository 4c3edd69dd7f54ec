//! Files that take everything, some, late, or nothing.

use super::*;
use std::io::Read;

fn counter() -> IntCounter {
    IntCounter::new("dropped", "lines").unwrap()
}

fn outlet(destination: &Destination, room: (usize, usize), dropped: &IntCounter) -> Outlet<String> {
    let losses = Losses::new("lines were dropped", dropped.clone());
    let render = |line: &String, out: &mut Vec<u8>| out.extend_from_slice(format!("{line}\n").as_bytes());
    Outlet::open("test", destination, room, losses, render).unwrap()
}

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn lines_come_whole_and_in_order_and_closing_waits_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let (path, dropped) = (folder.path().join("access.log"), counter());
    let outlet = outlet(&Destination::File(path.clone()), (10_000, 1 << 30), &dropped);
    for number in 0..5000 {
        outlet.send(format!("line {number}"), 10);
    }
    assert!(outlet.close(PATIENCE));
    let text = std::fs::read_to_string(path).unwrap();
    let expected: Vec<String> = (0..5000).map(|number| format!("line {number}")).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert_eq!(dropped.get(), 0);
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew_behind_what_waited() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let outlet = outlet(&Destination::File(path.clone()), (100, 1 << 20), &counter());
    outlet.send("before".to_owned(), 6);
    std::fs::rename(&path, &old).unwrap();
    outlet.reopen();
    outlet.send("after".to_owned(), 5);
    assert!(outlet.close(PATIENCE));
    assert_eq!(std::fs::read_to_string(old).unwrap(), "before\n");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "after\n");
}

/// A named pipe that is open for reading and that nobody reads.
fn pipe(folder: &std::path::Path) -> (PathBuf, File) {
    let path = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    // For both, so that opening it waits for nobody.
    let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    (path, reader)
}

#[test]
fn a_pipe_that_nobody_reads_costs_lines_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let ((path, mut reader), dropped) = (pipe(folder.path()), counter());
    let outlet = outlet(&Destination::File(path), (64, 1 << 30), &dropped);
    let line = "x".repeat(10_000);
    // The queue alone holds more than a pipe does: were one of these calls to wait, the test would never end.
    for _ in 0..2000 {
        outlet.send(line.clone(), 10_000);
    }
    let lost = dropped.get();
    assert!((1000..2000).contains(&lost), "{lost}");
    assert!(!outlet.close(Duration::from_millis(10)), "and the end does not wait for ever");

    let mut whole = vec![0; 10_001 * usize::try_from(2000 - lost).unwrap()];
    reader.read_exact(&mut whole).unwrap();
    assert!(whole.chunks(10_001).all(|chunk| chunk.ends_with(b"x\n")), "what was kept comes once somebody reads");
    assert!(outlet.close(PATIENCE));
    assert_eq!(dropped.get(), lost);
}

#[test]
fn bytes_are_bounded_as_well_as_lines() {
    let folder = tempfile::tempdir().unwrap();
    let ((path, _reader), dropped) = (pipe(folder.path()), counter());
    let outlet = outlet(&Destination::File(path), (10_000, 1_000_000), &dropped);
    for _ in 0..100 {
        outlet.send("y".repeat(100_000), 100_000);
    }
    assert!(dropped.get() > 70, "{}", dropped.get());
}

#[test]
fn a_full_disk_is_counted_line_by_line_and_not_waited_for() {
    let full = Destination::File(PathBuf::from("/dev/full"));
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let dropped = counter();
    let outlet = outlet(&full, (100, 1 << 20), &dropped);
    for _ in 0..50 {
        outlet.send("a line".to_owned(), 6);
    }
    assert!(outlet.close(PATIENCE));
    assert_eq!(dropped.get(), 50);
}

#[test]
fn half_a_line_is_ended_before_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    std::fs::write(&path, "half").unwrap();
    let destination = Destination::File(path.clone());
    let mut target = Target { file: destination.open().unwrap(), destination, torn: true };
    target.write(b"whole\n", &AtomicBool::new(false)).unwrap();
    assert!(!target.torn);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "half\nwhole\n");
}

#[test]
fn what_cannot_be_opened_says_so_at_once() {
    let nowhere = Destination::File(PathBuf::from("/no/such/folder/access.log"));
    let losses = Losses::new("", counter());
    assert!(Outlet::<String>::open("test", &nowhere, (1, 1), losses, |_, _| ()).is_err());
}
