//! Three strikes for one message.

/// Crashes that one message may cause before it is given up.
pub const STRIKES_MAX: u32 = 3;

/// How often a message was at hand when its actor crashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strikes(u32);

impl Strikes {
    /// None yet.
    pub const NONE: Self = Self(0);

    /// One more; `true`: that was the last one, give the message up.
    #[must_use]
    pub const fn add(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        self.0 >= STRIKES_MAX
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_is_the_last() {
        let mut strikes = Strikes::NONE;
        assert_eq!([strikes.add(), strikes.add(), strikes.add()], [false, false, true]);
        assert_eq!(strikes.count(), 3);
    }
}
