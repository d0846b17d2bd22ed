//! The conformance suite: public functions that every backend instantiates by name, so that a glance shows what it claims.
//!
//! A case is a function of a [`Rig`], which brings a broker, the time and somebody who waits; the suite itself knows no clock
//! and no thread. The same cases run on a state machine in virtual time, on an engine with real files, and on a client across
//! a socket. What a backend has not is asserted to be refused, in the case that covers what it would be.
//!
//! [`conformance_suite!`](crate::conformance_suite) makes a test of each case,
//! [`conformance_timing_suite!`](crate::conformance_timing_suite) of those that need a clock which only moves when nothing else
//! can, as a slow machine would fail them on its own clock, and
//! [`conformance_session_suite!`](crate::conformance_session_suite) of those in which a client hangs besides, and
//! [`conformance_control_suite!`](crate::conformance_control_suite) of those that a control row has to pass.
//!
//! Where the server is not there, a real broker's tests are skipped: `conformance_suite!(if rig())` takes a rig or none.
//!
//! Leaves out rates and times of every kind, and everything that only one model has: that is tested with the model.

pub mod bounds;
pub mod channels;
pub mod compaction;
pub mod contracts;
pub mod groups;
pub mod headers;
pub mod idempotence;
pub mod lanes;
pub mod leases;
pub mod order;
mod peer;
pub mod publish;
pub mod rate;
pub mod reshape;
pub mod resume;
mod rig;
pub mod roles;
pub mod seek;
mod seen;
mod session;
pub mod sessions;
pub mod settle;
pub mod transactions;
mod turns;
pub mod windows;

pub use rig::{Rig, Tuning};
pub use seen::{Ended, Got, Held};
pub use session::{Channel, Item, Session, Who, numbered};

/// Makes the macros of suites whose cases are listed.
macro_rules! suites {
    ($($(#[$doc:meta])* $suite:ident, $names:ident: { $($module:ident: [$($case:ident),* $(,)?]),+ $(,)? })+) => {
        suites!(@each ($) $($(#[$doc])* $suite, $names: { $($module: [$($case),*]),+ })+);
    };
    (@each ($d:tt) $($(#[$doc:meta])* $suite:ident, $names:ident: { $($module:ident: [$($case:ident),*]),+ })+) => {
        $(
            $(#[$doc])*
            #[macro_export]
            macro_rules! $suite {
                // A rig or none: without one, the expression has said why, and the case is skipped.
                (if $d rig:expr) => {
                    $(
                        mod $module {
                            #[allow(unused_imports, reason = "the expression names what stands around the macro")]
                            use super::*;
                            $(
                                #[test]
                                fn $case() {
                                    if let Some(mut rig) = $d rig {
                                        $d crate::conformance::$module::$case(&mut rig);
                                    }
                                }
                            )*
                        }
                    )+
                };
                ($d rig:expr) => {
                    $(
                        mod $module {
                            #[allow(unused_imports, reason = "the expression names what stands around the macro")]
                            use super::*;
                            $(
                                #[test]
                                fn $case() {
                                    $d crate::conformance::$module::$case(&mut $d rig);
                                }
                            )*
                        }
                    )+
                };
            }

            /// The names of the suite's cases, `module::case`.
            pub const $names: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($case)),)*)+];
        )+
    };
}

/// Makes the macros of a suite and of a smaller one from one list: the smaller has the cases before each `and`.
macro_rules! suite_and_part {
    (
        $(#[$doc:meta])* $suite:ident, $names:ident;
        $(#[$part_doc:meta])* $part:ident, $part_names:ident: {
            $($module:ident: [$($both:ident),* $(,)?] $(and [$($more:ident),+ $(,)?])?),+ $(,)?
        }
    ) => {
        suites! {
            $(#[$doc])* $suite, $names: { $($module: [$($both,)* $($($more),+)?]),+ }
            $(#[$part_doc])* $part, $part_names: { $($module: [$($both),*]),+ }
        }
    };
}

suite_and_part! {
    /// Makes a `#[test]` of every case, by its name. The expression gives a fresh [`Rig`](crate::conformance::Rig) and is
    /// evaluated once in each test. To be called inside a module of the backend's name.
    conformance_suite, CASES;

    /// Makes a `#[test]` of every case that a control row has to pass: one that hands on what it is given and keeps no state by
    /// which it could tell one settlement from another. Left out are the cases on receipts and on what was not settled.
    conformance_control_suite, CONTROL_CASES: {
        contracts: [
            every_contract_is_kept_by_settings_or_refused_with_a_reason,
            exactly_once_and_more_than_one_copy_are_refused,
            what_keeps_the_stronger_promise_keeps_the_weaker,
            the_backend_describes_itself,
            a_receiver_that_comes_later_finds_the_messages_or_the_contract_is_refused,
        ],
        channels: [
            channels_are_numbered_in_order_and_their_lanes_are_their_own,
            a_name_that_exists_is_refused,
            a_deleted_channel_is_gone,
            a_channel_without_lanes_is_refused,
            what_does_not_exist_is_refused,
            a_description_counts_what_was_published_and_taken,
            a_description_tells_what_waits_and_what_is_in_flight,
        ],
        publish: [
            a_publish_is_done_with_its_lane_and_a_dense_position,
            every_message_is_delivered_once_where_it_was_published,
            keys_headers_and_payloads_arrive_byte_by_byte,
            a_message_that_is_too_large_is_refused_alone,
            a_batch_of_lengths_is_delivered_as_lengths_or_refused,
            an_empty_batch_is_taken_and_has_no_consequence,
            a_flush_ends_after_the_publishes_before_it,
            a_producer_that_closes_leaves_what_was_acknowledged,
        ],
        bounds: [
            a_full_backend_takes_a_shorter_prefix_and_loses_nothing,
            what_is_not_taken_is_offered_again_in_order,
        ],
        groups: [
            each_group_gets_every_message_or_a_second_group_is_refused,
            members_of_a_group_share_its_messages,
            members_beyond_the_lanes_compete_or_stay_idle,
            grants_bound_deliveries_exactly,
            a_grant_of_nothing_is_done_at_once,
            a_member_reads_several_channels_by_one_credit,
            a_member_without_credit_gets_nothing_and_holds_nobody_up,
        ],
        headers: [] and [
            a_higher_priority_goes_first_or_is_carried,
            a_delay_and_a_life_are_kept_or_carried,
            a_repeat_is_stored_once_or_is_another_message,
            a_group_is_read_by_one_member_or_keys_lock_nothing,
            a_length_limit_counts_what_does_not_wait_or_everything_does,
            bindings_decide_who_gets_what_or_are_refused,
            a_dead_letter_can_be_read_or_is_refused,
            an_answer_comes_to_the_channel_that_the_request_names,
        ],
        order: [
            messages_of_a_key_come_in_order_or_the_contract_is_refused,
            every_group_sees_one_order_or_the_contract_is_refused,
        ],
        lanes: [
            a_first_member_is_assigned_every_lane,
            a_revoked_lane_is_held_until_it_is_released,
            a_lane_that_is_not_revoked_is_not_released,
            lanes_of_a_member_that_closes_go_to_the_others,
            a_member_knows_its_next_position,
        ],
        resume: [
            at_most_once_delivers_nothing_twice_or_is_refused,
            groups_keep_their_own_place,
        ] and [
            what_was_not_settled_comes_to_the_next_member,
        ],
        seek: [
            a_position_can_be_sought_or_seeking_is_refused,
            a_time_can_be_sought_or_seeking_is_refused,
            a_seek_out_of_range_or_of_another_is_refused,
            a_replay_ends_where_it_was_acknowledged_last,
        ],
        settle: [
            what_is_given_back_comes_again_or_giving_back_is_refused,
            what_is_dropped_does_not_come_again,
        ] and [
            an_acknowledgement_covers_its_message_or_all_before_it,
            a_receipt_that_was_settled_is_stale,
            a_receipt_that_was_never_given_is_refused,
            a_receipt_of_another_member_is_refused,
        ],
        rate: [
            a_rate_limit_fails_in_part_or_nothing_is_throttled,
            a_rate_limit_keeps_the_order_of_a_key,
        ],
        reshape: [
            a_split_lane_is_read_to_its_end_before_the_new_ones_or_splitting_is_refused,
            merged_lanes_are_read_to_their_end_before_the_new_one_or_merging_is_refused,
            a_split_by_another_or_of_what_is_not_there_is_refused,
        ],
        windows: [
            windows_go_on_exactly_from_a_checkpoint_or_going_back_is_refused,
        ],
        transactions: [
            a_transaction_counts_whole_or_not_at_all_or_is_refused,
            what_is_read_and_published_in_one_transaction_counts_together_or_is_refused,
            a_commit_for_a_lane_that_has_moved_is_refused_and_taken_back,
            who_begins_under_a_name_fences_the_one_that_had_it_or_is_refused,
        ],
        compaction: [the_latest_message_of_each_key_stays_or_all_do],
        idempotence: [
            a_repeat_of_a_producer_with_a_name_is_stored_once_or_is_another_message,
            a_gap_and_an_old_epoch_are_refused_or_carried,
        ],
        roles: [
            an_operation_of_another_role_is_refused,
            a_closed_client_is_refused_everything,
            a_close_ends_grants_and_deliveries,
        ],
    }
}

suites! {
    /// Makes a `#[test]` of every case that needs a clock which moves only when nothing else can: for virtual time. As
    /// [`conformance_suite!`](crate::conformance_suite).
    conformance_timing_suite, TIMING_CASES: {
        leases: [
            an_unsettled_message_comes_again_after_its_lease,
            an_extension_holds_the_lease,
            an_ended_lease_lets_another_member_have_the_message,
        ],
    }

    /// Makes a `#[test]` of every case in which a client hangs, which needs such a clock too, and nobody between client and engine who answers
    /// for it. As [`conformance_suite!`](crate::conformance_suite).
    conformance_session_suite, SESSION_CASES: {
        sessions: [
            a_silent_member_loses_its_lanes_or_keeps_what_it_holds,
            a_member_that_only_polls_keeps_its_lanes,
            a_member_whose_session_is_over_joins_anew_when_it_speaks,
        ],
    }
}

#[cfg(test)]
mod tests {
    /// A case that no suite names would run nowhere.
    #[test]
    fn every_public_case_is_in_a_suite() {
        let sources = [
            ("bounds", include_str!("bounds.rs")),
            ("channels", include_str!("channels.rs")),
            ("compaction", include_str!("compaction.rs")),
            ("contracts", include_str!("contracts.rs")),
            ("groups", include_str!("groups.rs")),
            ("headers", include_str!("headers.rs")),
            ("idempotence", include_str!("idempotence.rs")),
            ("lanes", include_str!("lanes.rs")),
            ("leases", include_str!("leases.rs")),
            ("order", include_str!("order.rs")),
            ("publish", include_str!("publish.rs")),
            ("rate", include_str!("rate.rs")),
            ("reshape", include_str!("reshape.rs")),
            ("resume", include_str!("resume.rs")),
            ("roles", include_str!("roles.rs")),
            ("seek", include_str!("seek.rs")),
            ("sessions", include_str!("sessions.rs")),
            ("settle", include_str!("settle.rs")),
            ("transactions", include_str!("transactions.rs")),
            ("windows", include_str!("windows.rs")),
        ];
        let mut cases: Vec<String> = sources
            .iter()
            .flat_map(|(module, source)| {
                let names = source.lines().filter_map(|line| line.strip_prefix("pub fn "));
                names.map(move |line| format!("{module}::{}", line.split('(').next().expect("a function has a list")))
            })
            .collect();
        let mut named: Vec<String> = super::CASES
            .iter()
            .chain(super::TIMING_CASES)
            .chain(super::SESSION_CASES)
            .map(|&name| name.to_owned())
            .collect();
        let some = ["settle::what_is_dropped_does_not_come_again", "resume::groups_keep_their_own_place"];
        assert!(some.iter().all(|name| super::CONTROL_CASES.contains(name)));
        assert!(super::CONTROL_CASES.iter().all(|name| super::CASES.contains(name)));
        assert!(!super::CONTROL_CASES.contains(&"settle::a_receipt_that_was_settled_is_stale"));
        cases.sort_unstable();
        named.sort_unstable();
        assert_eq!(cases, named);
    }

    /// A feature of which no case asks whether the backend has it is tested in neither direction.
    #[test]
    fn every_feature_decides_a_case() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance");
        let files = std::fs::read_dir(folder).expect("the suite's own source");
        let sources: Vec<String> = files
            .map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("text"))
            .filter(|source| source.contains("pub fn "))
            .collect();
        let asked = |feature: &crate::Feature| {
            let has = format!("has(Feature::{feature:?})");
            sources.iter().any(|source| source.contains(&has))
        };
        let missing: Vec<_> = crate::Feature::ALL.iter().filter(|feature| !asked(feature)).collect();
        assert!(missing.is_empty(), "no case asks for {missing:?}");
    }
}
