//! What tokens cost. All amounts are whole micro-units: a unit is the currency of the price table (US dollars in the one
//! that ships), and a micro-unit is its millionth part. Every cost is rounded up, once.

use serde::{Deserialize, Serialize};

/// Tokens that a price is said for.
const PRICED_TOKENS: u128 = 1_000_000;

/// What a model's tokens cost, micro-units per million tokens, as the price table said when the call was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Version of the price table.
    pub table: String,
    /// Tokens sent.
    pub input: u64,
    /// Tokens sent that the provider had kept.
    pub cached_input: u64,
    /// Tokens sent that the provider keeps.
    pub cache_write: u64,
    /// Tokens received.
    pub output: u64,
}

/// Tokens of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// Tokens sent, all of them.
    pub input: u64,
    /// Those of them that the provider had kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_input: u64,
    /// Those of them that the provider keeps.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write: u64,
    /// Tokens received, thinking included.
    pub output: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn times(tokens: u64, price: u64) -> u128 {
    u128::from(tokens).saturating_mul(u128::from(price))
}

fn micros(scaled: u128) -> u64 {
    u64::try_from(scaled.div_ceil(PRICED_TOKENS)).unwrap_or(u64::MAX)
}

impl Price {
    /// What these tokens cost, micro-units.
    pub fn cost(&self, tokens: Tokens) -> u64 {
        let cached = tokens.cached_input.min(tokens.input);
        let written = tokens.cache_write.min(tokens.input - cached);
        let fresh = tokens.input - cached - written;
        micros(
            times(fresh, self.input)
                .saturating_add(times(cached, self.cached_input))
                .saturating_add(times(written, self.cache_write))
                .saturating_add(times(tokens.output, self.output)),
        )
    }

    /// The most that these tokens can cost, whatever the provider keeps of them, micro-units.
    pub fn worst(&self, input: u64, output: u64) -> u64 {
        let dearest = self.input.max(self.cached_input).max(self.cache_write);
        micros(times(input, dearest).saturating_add(times(output, self.output)))
    }

    /// How many tokens of each of so many answers so many micro-units buy; none where they cost nothing.
    pub(super) fn bought(&self, left: u64, answers: u64) -> Option<u64> {
        let each = times(answers.max(1), self.output);
        if each == 0 {
            return None;
        }
        let scaled = u128::from(left).saturating_mul(PRICED_TOKENS);
        Some(u64::try_from(scaled / each).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(input: u64, cached_input: u64, cache_write: u64, output: u64) -> Price {
        Price { table: "t".into(), input, cached_input, cache_write, output }
    }

    #[test]
    fn a_cost_is_the_sum_of_its_parts_rounded_up_once() {
        let price = price(2_500_000, 1_250_000, 3_000_000, 10_000_000);
        let tokens = Tokens { input: 100, cached_input: 40, cache_write: 10, output: 7 };
        // 50 at 2.5, 40 at 1.25, 10 at 3 and 7 at 10 micro-units.
        assert_eq!(price.cost(tokens), 125 + 50 + 30 + 70);
        let one = Tokens { input: 1, ..Tokens::default() };
        assert_eq!(price.cost(one), 3, "2.5 micro-units");
        assert_eq!(price.cost(Tokens { input: 2, ..one }), 5);
        assert_eq!(price.cost(Tokens::default()), 0);
        let odd = Tokens { input: 1, cached_input: 9, cache_write: 9, output: 0 };
        assert_eq!(price.cost(odd), 2, "a part is never more than the whole");
    }

    proptest! {
        #[test]
        fn what_is_bought_is_paid_for_and_one_token_more_is_not(
            left in 0_u64..1_000_000_000_000, output in 1_u64..1_000_000_000, answers in 1_u64..9,
        ) {
            let price = price(0, 0, 0, output);
            let bought = price.bought(left, answers).unwrap();
            prop_assert!(price.worst(0, bought * answers) <= left);
            prop_assert!(price.worst(0, (bought + 1) * answers) > left);
        }

        #[test]
        fn no_number_makes_a_cost_fail_and_the_worst_is_the_worst(
            [input, cached_input, cache_write, output, a, b, c, d]: [u64; 8], shift in 0_u32..60,
        ) {
            // Small numbers as well: of the largest ones everything costs the most that there is.
            let price = price(a >> shift, b >> shift, c >> shift, d >> shift);
            let [input, output] = [input >> shift, output >> shift];
            let tokens = Tokens { input, cached_input: cached_input >> shift, cache_write: cache_write >> shift, output };
            prop_assert!(price.cost(tokens) <= price.worst(input, output));
            let _ = price.bought(input, output);
        }
    }
}
