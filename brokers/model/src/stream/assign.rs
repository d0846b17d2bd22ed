//! Which member of a group gets which lane: balanced to within one, and moving as few lanes as that needs.
//!
//! Leaves out how a lane changes hands; see [`super::membership`].

/// Balances lanes over `members` members. `claims[lane]` is the member that has the lane now, if any; the result is the member
/// that is to have it. Every member gets ⌊lanes ÷ members⌋ or one more; surplus goes first to those who hold most already, and
/// members that are equal count in the order in which they joined.
pub(crate) fn balance(claims: &[Option<usize>], members: usize) -> Vec<usize> {
    if members == 0 {
        return Vec::new();
    }
    let mut held = vec![0usize; members];
    for &member in claims.iter().flatten() {
        held[member] += 1;
    }
    let mut by_holding: Vec<usize> = (0..members).collect();
    by_holding.sort_by_key(|&member| std::cmp::Reverse(held[member]));
    let mut room = vec![claims.len() / members; members];
    for &member in by_holding.iter().take(claims.len() % members) {
        room[member] += 1;
    }
    let kept: Vec<Option<usize>> = claims
        .iter()
        .map(|claim| {
            let member = (*claim)?;
            let fits = room[member] > 0;
            room[member] -= usize::from(fits);
            fits.then_some(member)
        })
        .collect();
    let mut next = 0;
    let assigned = kept.into_iter().map(|keeper| {
        keeper.unwrap_or_else(|| {
            while room[next] == 0 {
                next += 1;
            }
            room[next] -= 1;
            next
        })
    });
    assigned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_assignment_is_by_ranges() {
        assert_eq!(balance(&[None; 5], 2), [0, 0, 0, 1, 1]);
        assert_eq!(balance(&[None; 2], 3), [0, 1]);
        assert_eq!(balance(&[None; 3], 0), []);
    }

    #[test]
    fn a_newcomer_takes_no_more_than_its_share() {
        let claims = [Some(0); 4];
        assert_eq!(balance(&claims, 2), [0, 0, 1, 1]);
        assert_eq!(balance(&[Some(0), Some(0), Some(1), Some(1)], 3), [0, 0, 1, 2]);
    }

    #[test]
    fn a_leaver_disturbs_nobody_else() {
        assert_eq!(balance(&[Some(0), None, Some(1), None], 2), [0, 0, 1, 1]);
        assert_eq!(balance(&[Some(1), Some(1), Some(1), None], 2), [1, 1, 0, 0]);
    }
}
