//! Golden digests of the built-in profiles, equal at any number of threads, and the fold of what was published.
//!
//! A changed digest means that every result with the same profile and seed was measured on other messages: the profiles'
//! or generators' change must be wanted, and said in the change log.

use brokerlab_workloads::{Fold, Profile, Workload, body_crc, digest, fold_of, key_hash};

const GOLDEN: [(&str, &str); 8] = [
    ("order-processing", "c5fba69c8d7b89713d49f0e0d4929cce587eb03fc55f579b4c1b397f9ec7e579"),
    ("iot-telemetry", "db1068609394464e4fe63cf435dd6eec1665119a0ad1c4abc0da4c039d854f33"),
    ("fraud-detection", "1ce2e323ff90cf88e2244d87f97c305b66b0fbd6784f9c5945613a9d597687b3"),
    ("pub-sub-fanout", "c14afb181a629ffde096c0e2e16603e7863c7a2c8c40400171b0a714890320ab"),
    ("flight-replay", "ae48c30702c677ceae1ad74bc53b394253b6fc3c66a9eb467cdbe03b17b27de4"),
    ("web-clickstream", "4d479f3ed01b5e859322feb57c1ed7912d4386b76ee9308c54913d4e25803e72"),
    ("rule-alerting", "ad6650893bd55747abe69bb37e0ecf63237bed2b6402b10b640c7171da4cf8ec"),
    ("event-sourcing-ledger", "166d5aa3d3103a26856691a2fa98e9c5c52c150c0894ebccc4f9a4311b3de986"),
];

fn load(name: &str) -> Workload {
    let profile = Profile::load(name).unwrap();
    Workload::new(&profile, profile.seed, 0)
}

#[test]
fn the_first_million_messages_are_the_golden_ones_at_one_and_at_eight_threads() {
    let found: Vec<(&str, String)> = GOLDEN
        .iter()
        .map(|(name, _)| {
            let workload = load(name);
            let one = digest(&workload, 1_000_000, 1).to_string();
            assert_eq!(one, digest(&workload, 1_000_000, 8).to_string(), "{name} at one and at eight threads");
            (*name, one)
        })
        .collect();
    let golden: Vec<(&str, String)> = GOLDEN.iter().map(|(name, digest)| (*name, (*digest).to_owned())).collect();
    assert_eq!(found, golden);
}

#[test]
fn a_digest_sees_seed_replication_count_and_profile_but_neither_horizon_nor_consumers() {
    let profile = Profile::load("order-processing").unwrap();
    let of = |sets: &[(&str, &str)], seed, replication, count| {
        let profile = Profile::load_with("order-processing", sets).unwrap();
        digest(&Workload::new(&profile, seed, replication), count, 2)
    };
    let base = of(&[], profile.seed, 0, 1_000);
    for other in [of(&[], 99, 0, 1_000), of(&[], profile.seed, 1, 1_000), of(&[], profile.seed, 0, 1_001)] {
        assert_ne!(base, other);
    }
    for set in
        [("arrivals.rate", "21k/s"), ("sizes", "100B"), ("keys.count", "9"), ("payload", "random"), ("producers", "7")]
    {
        assert_ne!(base, of(&[set], profile.seed, 0, 1_000), "{set:?}");
    }
    for set in [("duration", "1ms"), ("groups.*.members", "9"), ("groups.*.work.time", "1ms"), ("lanes", "9")] {
        assert_eq!(base, of(&[set], profile.seed, 0, 1_000), "{set:?}");
    }
}

#[test]
fn a_short_trace_is_digested_whole() {
    let workload = load("flight-replay");
    // Each producer's share is at least its 1,667 rows: no further message exists.
    assert_ne!(digest(&workload, 3_000, 1), digest(&workload, 5_001, 1));
    assert_eq!(digest(&workload, 6_000, 1), digest(&workload, 1_000_000, 3));
}

#[test]
fn a_closed_loop_has_a_digest_of_contents_and_think_times() {
    let sets =
        |time: &str| format!("{{ kind = \"closed-loop\", think = {{ kind = \"exponential\", time = \"{time}\" }} }}");
    let of = |time: &str| {
        let profile = Profile::load_with("order-processing", &[("arrivals", sets(time).as_str())]).unwrap();
        digest(&Workload::new(&profile, 1, 0), 1_000, 2)
    };
    assert_eq!(of("1ms"), of("1ms"));
    assert_ne!(of("1ms"), of("2ms"));
}

#[test]
fn the_fold_of_what_was_published_is_that_of_the_schedule_and_sees_every_field() {
    let workload = load("fraud-detection");
    let fold = |spoil: &dyn Fn(usize, &mut brokerlab_workloads::Scheduled, &mut Vec<u8>)| {
        let mut fold = Fold::new(workload.is_closed_loop());
        let mut producer = workload.producer(3);
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        for i in 0..100 {
            let mut message = producer.next().unwrap();
            key.clear();
            payload.clear();
            workload.write_key(message.key, &mut key);
            producer.write_payload(message.sequence, message.size, &mut payload);
            spoil(i, &mut message, &mut payload);
            fold.update(&message, &[], key_hash(&key), body_crc(&payload));
        }
        fold.value()
    };
    let right = fold_of(&workload, 3, 100);
    assert_eq!(fold(&|_, _, _| ()), right);
    assert_ne!(fold_of(&workload, 3, 99), right);
    assert_ne!(fold_of(&workload, 4, 100), right);
    assert_ne!(fold(&|i, m, _| m.sequence += u64::from(i == 50)), right);
    assert_ne!(fold(&|i, m, _| m.intended.0 += u64::from(i == 50)), right);
    assert_ne!(fold(&|i, m, _| m.size += u32::from(i == 50)), right);
    assert_ne!(fold(&|i, _, p| p[40] ^= u8::from(i == 50)), right);
}
