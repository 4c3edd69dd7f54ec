//! Another master key: what it opens, where a rotation may be stopped, and what a lost key means.

use super::*;
use crate::directory::rotate::{Rotated, rotate};

/// A store with some of everything, sealed with the master key `07`; and a virtual key of it.
fn furnished() -> (Arc<Fragile>, String, Secret) {
    let store = Arc::new(Fragile::default());
    let directory = open(&store, "07");
    let id = workspace(&directory).id.clone();
    let other = workspace(&directory).id.clone();
    for workspace in [&id, &id, &other] {
        credential(&directory, workspace, 1);
    }
    let (_, secret) = directory.create_key(&id, NewKey::default(), now()).ok().unwrap();
    let (revoked, _) = directory.create_key(&other, NewKey::default(), now()).ok().unwrap();
    directory.revoke_key(&other, &revoked.id, now()).ok().unwrap();
    (store, id, secret)
}

fn turn(store: &Arc<Fragile>, texts: &[&str], give_up: Option<&str>) -> Result<Rotated> {
    let (vault, keys) = masters(texts);
    rotate(&**store, &vault, &keys, give_up, now())
}

fn fingerprint(text: &str) -> String {
    masters(&[text]).0.newest_id().to_owned()
}

/// Whether everything works with these master keys: the provider keys can be read, the virtual key opens the door.
fn works(store: &Arc<Fragile>, texts: &[&str], secret: &Secret) -> bool {
    let Ok(directory) = open_with(store, texts) else { return false };
    let usable = directory.workspaces().iter().flat_map(|workspace| workspace.credentials.clone()).all(|credential| {
        credential.usable
            && credential.key.expose() == "sk-0123456789abcd"
            && credential.options.get("session_token") == Some(&json!("t"))
    });
    usable && directory.authenticate(secret.expose(), now()).is_some()
}

#[test]
fn after_a_rotation_the_new_key_alone_opens_everything() {
    let (store, id, secret) = furnished();
    assert!(works(&store, &["08", "07"], &secret), "both keys serve before the rotation");
    // Made meanwhile, under the new key.
    let (_, late) =
        open_with(&store, &["08", "07"]).ok().unwrap().create_key(&id, NewKey::default(), now()).ok().unwrap();
    let before = store.tenancy().unwrap();

    let rotated = turn(&store, &["08", "07"], None).unwrap();
    assert_eq!(rotated, Rotated { resealed: 5, kept: 1, ..Rotated::default() });
    for texts in [&["08"][..], &["08", "07"]] {
        assert!(works(&store, texts, &secret) && works(&store, texts, &late), "{texts:?}");
    }
    assert!(!works(&store, &["07"], &secret));
    let again = turn(&store, &["08", "07"], None).unwrap();
    assert_eq!(again, Rotated { kept: 6, ..Rotated::default() }, "a second time there is nothing to do");

    let after = store.tenancy().unwrap();
    let plain = |tenancy: &Tenancy| {
        let mut tenancy = tenancy.clone();
        tenancy.credentials.iter_mut().for_each(|record| record.sealed.clear());
        tenancy.keys.iter_mut().for_each(|record| record.pepper = None);
        format!("{tenancy:?}")
    };
    assert_eq!(plain(&before), plain(&after), "nothing but what is sealed was changed");
    assert!(turn(&store, &["09", "08"], None).unwrap().resealed == 6 && works(&store, &["09"], &secret));
}

#[test]
fn a_rotation_can_be_stopped_after_any_write_and_begun_again() {
    for stopped_after in 1..5 {
        let (store, _, secret) = furnished();
        let writes = store.writes.load(Ordering::Relaxed);
        store.last_write.store(writes + stopped_after, Ordering::Relaxed);
        assert!(turn(&store, &["08", "07"], None).is_err(), "it was stopped");
        store.last_write.store(0, Ordering::Relaxed);

        assert!(works(&store, &["08", "07"], &secret), "both keys serve in the middle of it");
        let refused = open_with(&store, &["08"]).err().unwrap();
        assert!(refused.message().contains(&fingerprint("07")), "{}", refused.message());
        let rotated = turn(&store, &["08", "07"], None).unwrap();
        assert_eq!((rotated.resealed, rotated.kept), (5 - stopped_after, stopped_after));
        assert!(works(&store, &["08"], &secret));
    }
}

#[test]
fn a_key_that_is_not_here_is_named_and_nothing_is_lost_by_it() {
    let (store, id, secret) = furnished();
    let before = format!("{:?}", store.tenancy().unwrap());
    let refused = open_with(&store, &["08"]).err().unwrap();
    let said = refused.message();
    for word in [&*fingerprint("07"), &*fingerprint("08"), "old_master_keys", "vault rotate", "--give-up"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    let rotated = turn(&store, &["08"], None).unwrap();
    assert_eq!((rotated.resealed, rotated.kept, rotated.unreadable.len()), (0, 0, 5));
    assert!(rotated.unreadable.iter().all(|what| what.contains(&fingerprint("07"))), "{rotated:?}");
    assert!(rotated.unreadable.iter().any(|what| what.contains(&id)));
    assert_eq!(before, format!("{:?}", store.tenancy().unwrap()));
    assert!(works(&store, &["07"], &secret), "the key that came back opens everything");
}

#[test]
fn a_lost_key_is_given_up_by_its_name_alone() {
    let (store, id, secret) = furnished();
    assert!(turn(&store, &["08", "07"], Some(&fingerprint("07"))).is_err(), "it is here");
    assert_eq!(turn(&store, &["08"], Some("another one")).unwrap().given_up, 0);
    let rotated = turn(&store, &["08"], Some(&fingerprint("07"))).unwrap();
    assert_eq!((rotated.given_up, rotated.unreadable.len()), (5, 0));

    let directory = open(&store, "08");
    let held = directory.workspace(&id).unwrap().credentials[0].clone();
    assert!(!held.usable && held.key.expose().is_empty());
    assert!(directory.authenticate(secret.expose(), now()).is_none());
    assert!(directory.keys(&id).iter().all(|key| key.revoked_at == Some(now())));
    let again = CredentialChange {
        api_key: Some(Secret::new("sk-again-0123456789")),
        options: Some(Map::new()),
        ..CredentialChange::default()
    };
    assert!(directory.update_credential(&id, &held.id, again).ok().unwrap().usable);
}

#[test]
fn virtual_keys_from_before_peppers_were_kept_are_carried_over_too() {
    let (store, _, secret) = furnished();
    for mut record in store.tenancy().unwrap().keys {
        record.pepper = None;
        store.put_key(&record).unwrap();
    }
    assert!(works(&store, &["07"], &secret) && works(&store, &["08", "07"], &secret));
    assert_eq!(turn(&store, &["08", "07"], None).unwrap().resealed, 5);
    assert!(works(&store, &["08"], &secret));
}

#[test]
fn a_sealed_pepper_that_was_moved_opens_no_door() {
    let (store, _, secret) = furnished();
    let mut keys = store.tenancy().unwrap().keys;
    let stolen = keys[0].pepper.clone();
    keys.iter_mut().rev().take(1).for_each(|record| record.pepper.clone_from(&stolen));
    keys.iter().for_each(|record| store.put_key(record).unwrap());
    assert_eq!(turn(&store, &["08", "07"], None).unwrap().unreadable.len(), 1);
    assert!(works(&store, &["08", "07"], &secret), "and harms no other");
}
