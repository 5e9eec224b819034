//! Memory: the guest's own, and the mailbox.

use ampoule::{Builder, Call, CallError, Sandbox};
use ampoule_tests::tenant_builder;

use crate::{WAYS_TO_THE_NEXT, end, run_for_a_while, spawn};

/// How a tenant hides its secret.
const WAYS_TO_HIDE: [fn(&mut Sandbox); 5] = [
    |tenant| plant(tenant, SECRET),
    |tenant| end(tenant.call::<()>("plant_and_fault", (SECRET,))),
    |tenant| run_for_a_while(tenant, Call::new("plant_and_spin", (SECRET,))),
    |tenant| {
        plant(tenant, SECRET);
        end(tenant.call::<()>("exit", ()));
    },
    |tenant| {
        plant(tenant, SECRET);
        let prints = tenant.call_with::<(), _>(Call::new("print", ("x",)).limits(ampoule::Limits::new().output(0)));
        end(prints);
    },
];

#[test]
fn a_secret_is_found_while_nothing_was_put_back() {
    let mut tenant = small().build().unwrap();
    assert_eq!(find(&mut tenant, SECRET), 0);
    plant(&mut tenant, SECRET);
    assert!(find(&mut tenant, SECRET) >= 64);
}

#[test]
fn nothing_in_memory_reaches_the_next_tenant() {
    let mut tenant = small().build().unwrap();
    let clean = tenant.snapshot().unwrap();
    for (hide, way_to_hide) in WAYS_TO_HIDE.iter().enumerate() {
        for (go_on, way_to_next) in WAYS_TO_THE_NEXT.iter().enumerate() {
            way_to_hide(&mut tenant);
            way_to_next(&mut tenant, &clean);
            assert_eq!(find(&mut tenant, SECRET), 0, "way {hide} to hide it, way {go_on} to go on");
            tenant.reset().unwrap();
        }
    }
}

#[test]
fn nothing_in_memory_outlives_a_reset() {
    let mut tenant = small().build().unwrap();
    for (hide, way_to_hide) in WAYS_TO_HIDE.iter().enumerate() {
        way_to_hide(&mut tenant);
        tenant.reset().unwrap();
        assert_eq!(find(&mut tenant, SECRET), 0, "way {hide} to hide it");
        tenant.reset().unwrap();
    }
}

#[test]
fn siblings_do_not_see_what_one_of_them_writes() {
    let mut original = small().build().unwrap();
    original.call::<()>("set_value", (1u8, 5000u32, 7u64)).unwrap();
    let snapshot = original.snapshot().unwrap();
    let mut siblings = [spawn(&snapshot), spawn(&snapshot)];
    plant(&mut siblings[0], SECRET);
    plant(&mut original, OTHER_SECRET);
    assert_eq!((find(&mut siblings[1], SECRET), find(&mut siblings[1], OTHER_SECRET)), (0, 0));
    let mut late = spawn(&snapshot);
    assert_eq!((find(&mut late, SECRET), find(&mut late, OTHER_SECRET)), (0, 0));
    assert_eq!(find(&mut siblings[0], OTHER_SECRET), 0);
    assert_eq!(find(&mut original, SECRET), 0);
}

#[test]
fn each_snapshot_of_a_chain_holds_its_own_secrets_only() {
    let mut tenant = small().build().unwrap();
    let clean = tenant.snapshot().unwrap();
    plant(&mut tenant, SECRET);
    let with_one = tenant.snapshot().unwrap();
    tenant.restore(&clean).unwrap();
    plant(&mut tenant, OTHER_SECRET);
    let with_other = tenant.snapshot().unwrap();
    for (snapshot, secrets) in [(&clean, (false, false)), (&with_one, (true, false)), (&with_other, (false, true))] {
        for way_to_next in WAYS_TO_THE_NEXT {
            let mut seen = [SECRET, OTHER_SECRET].map(|secret| {
                way_to_next(&mut tenant, snapshot);
                find(&mut tenant, secret) > 0
            });
            assert_eq!((seen[0], seen[1]), secrets);
            seen = [SECRET, OTHER_SECRET].map(|secret| find(&mut spawn(snapshot), secret) > 0);
            assert_eq!((seen[0], seen[1]), secrets);
        }
    }
}

#[test]
fn payloads_are_gone_whatever_their_length_and_direction() {
    let secret_bytes: Vec<u8> = SECRET.to_le_bytes().repeat(20_000);
    type Conversation = fn(&mut Sandbox, &[u8]);
    let conversations: [Conversation; 4] = [
        |tenant, secret| tenant.call("take_bytes", (secret,)).unwrap(),
        |tenant, secret| {
            let too_large = secret.repeat(10);
            let refused = tenant.call::<()>("take_bytes", (&too_large,));
            assert!(matches!(refused, Err(CallError::PayloadTooLarge { .. })));
        },
        |tenant, _| assert_eq!(tenant.call::<u64>("ask_for_words", (20_000u32, SECRET)).unwrap(), 20_000),
        |tenant, _| assert!(tenant.call::<u64>("ask_for_words", (2_000_000u32, SECRET)).is_err()),
    ];
    let mut tenant = small().build().unwrap();
    let clean = tenant.snapshot().unwrap();
    for (index, conversation) in conversations.iter().enumerate() {
        for way_to_next in WAYS_TO_THE_NEXT {
            conversation(&mut tenant, &secret_bytes);
            way_to_next(&mut tenant, &clean);
            assert_eq!(find_in_mailbox(&mut tenant, SECRET), 0, "conversation {index}");
            tenant.reset().unwrap();
        }
        // Nothing of the conversation before a snapshot is left after it.
        conversation(&mut tenant, &secret_bytes);
        let said = tenant.snapshot().unwrap();
        assert_eq!(find_in_mailbox(&mut tenant, SECRET), 0, "conversation {index}");
        for way_to_next in WAYS_TO_THE_NEXT {
            way_to_next(&mut tenant, &said);
            assert_eq!(find_in_mailbox(&mut tenant, SECRET), 0, "conversation {index}");
        }
        tenant.restore(&clean).unwrap();
    }
}

#[test]
fn pages_that_stay_quiet_are_given_back_and_clean() {
    let mut tenant = small().build().unwrap();
    let clean = tenant.snapshot().unwrap();
    for round in 0..3 {
        plant(&mut tenant, SECRET);
        let full = tenant.stats().unwrap();
        tenant.restore(&clean).unwrap();
        for _ in 0..20 {
            tenant.call::<()>("take_bytes", (&[1u8; 100][..],)).unwrap();
            tenant.restore(&clean).unwrap();
        }
        let quiet = tenant.stats().unwrap();
        assert!(full.dirty_pages > 1000 && quiet.dirty_pages < 300, "{full:?} {quiet:?}");
        assert!(quiet.owned_bytes < full.owned_bytes / 2, "{full:?} {quiet:?}");
        assert_eq!(find(&mut tenant, SECRET), 0, "round {round}");
    }
}

#[test]
fn going_far_in_one_step_leaves_nothing_behind() {
    let mut tenant = small().build().unwrap();
    let clean = tenant.snapshot().unwrap();
    plant(&mut tenant, SECRET);
    let full = tenant.snapshot().unwrap();
    assert!(full.stored_bytes() > clean.stored_bytes() + 1024 * 4096);
    for _ in 0..2 {
        tenant.restore(&clean).unwrap();
        assert_eq!(find(&mut tenant, SECRET), 0);
        plant(&mut tenant, OTHER_SECRET);
        tenant.restore(&full).unwrap();
        assert_eq!(find(&mut tenant, OTHER_SECRET), 0);
        assert!(find(&mut tenant, SECRET) > 0);
        end(tenant.call::<()>("plant_and_fault", (OTHER_SECRET,)));
    }
}

/// A sandbox with little memory, which it can fill soon.
fn small() -> Builder {
    tenant_builder().memory_limit(8 << 20)
}

fn plant(tenant: &mut Sandbox, secret: u64) {
    let written = tenant.call::<u64>("plant", (secret,)).unwrap();
    assert!(written > 6 << 20, "{written} bytes");
}

/// How often (up to a bound) the guest finds a secret in what it can read.
fn find(tenant: &mut Sandbox, secret: u64) -> usize {
    found(tenant, secret).len()
}

fn found(tenant: &mut Sandbox, secret: u64) -> Vec<u64> {
    tenant.call("find", (!secret, &[HOST_PAGES][..])).unwrap()
}

/// How often the guest finds the secret in the mailbox, at whatever offset from a multiple of eight.
fn find_in_mailbox(tenant: &mut Sandbox, secret: u64) -> usize {
    let rotated = (0..8).map(|bytes| secret.rotate_left(8 * bytes));
    rotated.map(|secret| found(tenant, secret).into_iter().filter(|at| *at >= MAILBOX).count()).sum()
}

const SECRET: u64 = 0x5ec2_e75e_c2e7_1d0b;
const OTHER_SECRET: u64 = 0x0dd_5ec2_e700_0b1e;

/// Pages of the host's that the guest can read: two stubs, and what its processor loads registers from after a restore.
const HOST_PAGES: (u64, u64) = (0x7f80_0000_5000, 0x7f80_0000_a000);

/// Where the mailbox begins.
const MAILBOX: u64 = 0x7f80_4000_0000;
