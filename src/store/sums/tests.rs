//! Sums that are written, made few and given back, whatever is cut short.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::store::disk::{MemoryDisk, read_all};
use crate::store::suite::{at, booking};
use crate::store::{DayRange, Keep, SeriesQuery};

const PRUNED: Pruned = Pruned::NONE;

/// The entry of this number: a request of that minute, of one of three workspaces.
fn entry(number: u64) -> Entry<'static> {
    let time = format!("2026-01-0{}T{:02}:{:02}:00Z", 1 + number % 3, number % 24, number * 7 % 60);
    Entry::Booking(Cow::Owned(booking(["ws", "ws2", "w"][number as usize % 3], &number.to_string(), &time)))
}

fn apply(sums: &Sums, through: u64) {
    // Beginning with the first one each time: what is there already must not count again.
    (1..=through).for_each(|number| sums.apply(number, &entry(number)).unwrap());
}

/// All that can be asked, as text.
fn told(sums: &Sums, pruned: &Pruned) -> String {
    let mut all = String::new();
    for workspace in ["ws", "ws2", "w", "nobody"] {
        for by in [By::Provider, By::Key, By::Model, By::Day] {
            all += &format!("{:?}\n", sums.rollups(workspace, by, DayRange::default(), pruned).unwrap());
        }
        for grain in Grain::ALL {
            let query = SeriesQuery { grain, key: None, provider: None, model: None, days: DayRange::default() };
            all += &format!("{:?}\n", sums.series(workspace, &query, pruned).unwrap());
        }
        all += &format!("{:?}\n", sums.spent(workspace, DayRange::default(), pruned).unwrap());
    }
    all
}

/// In memory alone, and never written.
fn expected(through: u64) -> String {
    let sums = Sums::open(Arc::<MemoryDisk>::default()).unwrap();
    apply(&sums, through);
    told(&sums, &PRUNED)
}

/// Runs of so many entries each.
fn runs(disk: &Arc<MemoryDisk>, count: u64, each: u64) -> Sums {
    let sums = Sums::open(Arc::clone(disk) as Arc<dyn Disk>).unwrap();
    for run in 1..=count {
        apply(&sums, run * each);
        sums.fold(&PRUNED).unwrap();
    }
    sums
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Apply(u64),
    Fold,
    Gather,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..12).prop_map(Step::Apply),
        4 => Just(Step::Fold),
        1 => Just(Step::Gather),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A crash loses the memory, and the journal gives it again.
    #[test]
    fn sums_are_the_same_however_they_came_to_the_disk(steps in prop::collection::vec(step(), 1..40)) {
        let disk = Arc::<MemoryDisk>::default();
        let open = || Sums::open(Arc::clone(&disk) as Arc<dyn Disk>).unwrap();
        let (mut sums, mut through) = (open(), 0);
        for step in steps {
            match step {
                Step::Apply(more) => {
                    through += more;
                    apply(&sums, through);
                }
                Step::Fold => sums.fold(&PRUNED).unwrap(),
                Step::Gather => sums.gather(&PRUNED).unwrap(),
                Step::Reopen => {
                    sums = open();
                    apply(&sums, through);
                }
            }
        }
        prop_assert_eq!(told(&sums, &PRUNED), expected(through));
    }
}

#[test]
fn many_runs_become_few_and_say_the_same() {
    let disk = Arc::<MemoryDisk>::default();
    let sums = runs(&disk, 30, 3);
    assert!(sums.is_scattered());
    sums.gather(&PRUNED).unwrap();
    assert!(!sums.is_scattered() && sums.runs().len() < 4, "{} runs", sums.runs().len());
    assert_eq!(told(&sums, &PRUNED), expected(90));
    assert_eq!(disk.list().unwrap().len(), sums.runs().len(), "what was replaced is gone");
}

#[test]
fn what_an_interrupted_change_left_counts_for_nothing_and_is_cleared_away() {
    let disk = Arc::<MemoryDisk>::default();
    let sums = runs(&disk, 8, 2);
    let before: Vec<_> = sums.runs().iter().map(|run| run.of.name()).collect();
    let bytes = before.iter().map(|name| read_all(&*disk.open(name).unwrap()).unwrap()).collect::<Vec<_>>();
    sums.gather(&PRUNED).unwrap();
    // The runs that were made one are still there, and another was begun.
    for (name, bytes) in before.iter().zip(bytes) {
        disk.create(name).unwrap().write_at(&bytes, 0).unwrap();
    }
    disk.create("00000000000000000017.new").unwrap();
    let sums = Sums::open(Arc::clone(&disk) as Arc<dyn Disk>).unwrap();
    assert_eq!((sums.through(), told(&sums, &PRUNED)), (16, expected(16)));
    assert_eq!(disk.list().unwrap().len(), sums.runs().len());
}

#[test]
fn a_run_that_is_missing_is_told() {
    let disk = Arc::<MemoryDisk>::default();
    let sums = runs(&disk, 3, 2);
    disk.remove(&sums.runs()[1].of.name()).unwrap();
    let error = Sums::open(disk).err().unwrap();
    assert!(error.message().contains("entries 3 to 4 are missing"), "{error}");
}

#[test]
fn sums_that_are_too_old_are_not_told_and_their_space_is_given_back() {
    let disk = Arc::<MemoryDisk>::default();
    let sums = runs(&disk, 3, 100);
    let bytes = || sums.runs().iter().map(|run| run.bytes).sum::<u64>();
    let rows = || sums.runs().iter().map(|run| run.rows()).sum::<u64>();
    let (bytes_before, rows_before) = (bytes(), rows());
    let moment = at("2026-01-09T00:00:00Z");
    let pruned = PRUNED.and(&Keep { minutes: moment, hours: moment, ..Keep::logs_since(jiff::Timestamp::MIN) });
    let days = |pruned| sums.rollups("ws", By::Day, DayRange::default(), pruned).unwrap();
    let before = days(&PRUNED);
    sums.shed(&pruned).unwrap();
    assert!(bytes() < bytes_before && rows() < rows_before / 2, "{} of {rows_before}", rows());
    assert_eq!((days(&pruned), sums.through()), (before, 300));
    let query = SeriesQuery { grain: Grain::Hour, key: None, provider: None, model: None, days: DayRange::default() };
    assert!(sums.series("ws", &query, &pruned).unwrap().is_empty());
    assert_eq!(sums.folded(), 300);
}
