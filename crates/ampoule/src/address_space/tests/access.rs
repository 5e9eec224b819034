//! What the host reads and writes for the guest.

use super::*;

#[test]
fn accesses_cross_pages_that_lie_apart_in_memory() {
    let mut space = space(8, 16);
    let low = GuestVirt(0x10_0000);
    let page_at = |index: u64| GuestVirt(low.0 + index * PAGE);
    for index in [2, 0, 1] {
        space.map_anonymous(PAGE, Placement::FixedVacant(page_at(index)), Protection::ReadWrite).unwrap();
    }
    let bytes: Vec<u8> = (0..2 * PAGE_SIZE + 100).map(|index| (index % 251) as u8).collect();
    let at = GuestVirt(low.0 + 50);
    space.write(at, &bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    space.read(at, &mut back).unwrap();
    assert!(back == bytes);
}

#[test]
fn the_guests_permissions_are_the_hosts() {
    let mut space = space(8, 16);
    let low = GuestVirt(0x10_0000);
    for (index, protection) in [Protection::ReadWrite, Protection::Read, Protection::None].into_iter().enumerate() {
        let at = GuestVirt(low.0 + index as u64 * PAGE);
        space.map_anonymous(PAGE, Placement::FixedVacant(at), protection).unwrap();
    }
    let bad = |offset: u64| Err(BadAddress { address: GuestVirt(low.0 + offset) });
    let mut buffer = [0; 16];
    assert_eq!(space.write(GuestVirt(low.0 + PAGE - 8), &buffer), bad(PAGE));
    assert_eq!(space.read(GuestVirt(low.0 + PAGE - 8), &mut buffer), Ok(()));
    assert_eq!(space.read(GuestVirt(low.0 + 2 * PAGE - 8), &mut buffer), bad(2 * PAGE));
    let below = GuestVirt(low.0 - 8);
    assert_eq!(space.read(below, &mut buffer), Err(BadAddress { address: below }));
}

#[test]
fn wild_addresses_are_bad_addresses() {
    let mut space = space(1, 16);
    for at in [0, 1, USER_END.0 - 1, USER_END.0, 1 << 47, u64::MAX - 3, u64::MAX] {
        assert!(space.read_u64(GuestVirt(at)).is_err(), "{at:#x}");
        assert!(space.write(GuestVirt(at), &[0; 8]).is_err(), "{at:#x}");
        assert!(space.read_c_string(GuestVirt(at), 10).is_err(), "{at:#x}");
    }
}

#[test]
fn nothing_is_touched_by_an_access_of_no_bytes() {
    let mut space = space(1, 16);
    assert_eq!(space.read(GuestVirt(0), &mut []), Ok(()));
    assert_eq!(space.write(GuestVirt(u64::MAX), &[]), Ok(()));
}

#[test]
fn strings_end_at_their_zero_or_at_the_limit() {
    let mut space = space(2, 16);
    let at = GuestVirt(0x10_0000);
    space.map_anonymous(PAGE, Placement::FixedVacant(at), Protection::ReadWrite).unwrap();
    let text = [b'x'; 300];
    let string = GuestVirt(at.0 + 10);
    space.write(string, &text).unwrap();
    assert_eq!(space.read_c_string(string, 301).unwrap(), text);
    assert_eq!(space.read_c_string(string, 300), Err(StringError::TooLong { limit: 300 }));
    let last = GuestVirt(at.0 + PAGE - 2);
    space.write(last, b"ab").unwrap();
    assert!(matches!(space.read_c_string(last, 300), Err(StringError::BadAddress(_))));
    space.write(last, b"a\0").unwrap();
    assert_eq!(space.read_c_string(last, 300).unwrap(), b"a");
}

#[test]
fn windows_are_read_and_written_like_the_guests_own_memory() {
    let mut space = space(1, 16);
    let (shown, region) = window(USER_END.0, 2, false);
    space.add_window(shown).unwrap();
    region.write(2 * PAGE_SIZE, b"shown").unwrap();
    let at = GuestVirt(USER_END.0 + PAGE);
    assert_eq!(space.read_array(at), Ok(*b"shown"));
    assert_eq!(space.write(at, b"x"), Err(BadAddress { address: at }));
    assert_eq!(space.describe(at), Location::Window { writable: false });
    assert_eq!(space.read_array::<2>(GuestVirt(at.0 + PAGE - 1)), Err(BadAddress { address: GuestVirt(at.0 + PAGE) }));

    let (writable, region) = window(USER_END.0 + 2 * PAGE, 1, true);
    space.add_window(writable).unwrap();
    space.write(GuestVirt(USER_END.0 + 3 * PAGE - 2), b"ab").unwrap();
    let mut end = [0; 2];
    region.read(2 * PAGE_SIZE - 2, &mut end).unwrap();
    assert_eq!(&end, b"ab");
}

#[test]
fn windows_lie_beyond_the_guests_addresses_and_side_by_side() {
    let mut space = space(1, 16);
    assert!(matches!(space.add_window(window(USER_END.0 - PAGE, 1, false).0), Err(MapError::InvalidRange)));
    assert!(matches!(space.add_window(window((1 << 47) - PAGE, 2, false).0), Err(MapError::InvalidRange)));
    space.add_window(window(USER_END.0, 2, false).0).unwrap();
    assert!(matches!(space.add_window(window(USER_END.0 + PAGE, 1, false).0), Err(MapError::Occupied)));
    space.add_window(window(USER_END.0 + 2 * PAGE, 1, false).0).unwrap();
}
