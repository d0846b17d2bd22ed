//! A restart, the plain way: everything is set anew from what a journal says.
//!
//! Leaves out how that is read off the journal, which is the trials' own.

use super::{Channel, Cursor, Fate, Lane, Reference};
use crate::time::Time;
use crate::trial::crash::Known;

impl Reference {
    /// All clients are gone, and what is known is all there is. What was acknowledged and is kept must be among it.
    pub(crate) fn restarted(&mut self, known: &Known) {
        for (number, lane) in (0u32..).zip(&self.lanes) {
            let gone = matches!(known.channels.get(&(lane.channel as u32)), None | Some(None));
            let kept = (lane.start..).zip(lane.messages.iter().skip(lane.start as usize));
            for (position, _) in kept.filter(|(_, message)| message.1 == Fate::Stored && !gone) {
                assert!(
                    known.messages.contains_key(&(number, position)),
                    "{position} of lane {number} was acknowledged"
                );
            }
        }
        self.clients.clear();
        self.waiting.clear();
        self.flushes.clear();
        self.disturbed.clear();
        self.cursors.clear();
        self.next_ticket = 0;
        self.rules.restarted();
        let (channels, lanes) = known.given_out;
        let nobody = || Channel { name: String::new(), first: 0, lanes: 0, groups: Vec::new(), gone: true };
        self.channels = (0..channels).map(|_| nobody()).collect();
        let gone = (0..channels).find(|number| !matches!(known.channels.get(number), Some(Some(_)))).unwrap_or(0);
        let lane =
            |number| Lane { channel: gone as usize, messages: messages(known, number), start: known.start(number) };
        self.lanes = (0..lanes).map(lane).collect();
        for (&channel, made) in &known.channels {
            let Some(made) = made else { continue };
            let (name, first, lanes, groups) = (made.name.clone(), made.first.0, made.lanes, made.groups.clone());
            for lane in first..first + lanes {
                self.lanes[lane as usize].channel = channel as usize;
                for group in 0..groups.len() as u32 {
                    self.cursors.insert((lane, group), self.cursor(known, lane, group));
                }
            }
            self.channels[channel as usize] = Channel { name, first, lanes, groups, gone: false };
        }
    }

    /// A group reads on from where it had committed. All that is there may have been delivered, unless deliveries are
    /// committed first.
    fn cursor(&self, known: &Known, lane: u32, group: u32) -> Cursor {
        let committed = known.committed.get(&(lane, group)).copied().unwrap_or(0);
        let highest = if self.commits_first() { committed } else { known.end(lane) };
        Cursor { position: committed, committed, highest, ..Cursor::default() }
    }
}

fn messages(known: &Known, lane: u32) -> Vec<(Time, Fate)> {
    let missing = (Time::ZERO, Fate::Failed);
    let message = |position| known.messages.get(&(lane, position)).map_or(missing, |&written| (written, Fate::Stored));
    (0..known.end(lane)).map(message).collect()
}
