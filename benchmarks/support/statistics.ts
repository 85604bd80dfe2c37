/**
 * What many noisy measurements say together. Medians and quartiles: one slow batch moves neither.
 */
import { performance } from 'node:perf_hooks'

/** The middle of a sample, with the quartiles around it. */
export interface Estimate { readonly median: number, readonly low: number, readonly high: number }

export function estimate (values: readonly number[]): Estimate {
  const sorted = values.toSorted((a, b) => a - b)
  return { median: quantile(sorted, 0.5), low: quantile(sorted, 0.25), high: quantile(sorted, 0.75) }
}

/** Its smallest and its largest value around the median, for samples of a few. */
export function extent (values: readonly number[]): Estimate {
  return { median: estimate(values).median, low: Math.min(...values), high: Math.max(...values) }
}

function quantile (sorted: readonly number[], part: number): number {
  const place = (sorted.length - 1) * part
  const below = sorted[Math.floor(place)]!
  return below + (sorted[Math.ceil(place)]! - below) * (place % 1)
}

export interface Batches {
  /** Pairs of batches that count. */
  readonly pairs: number
  /** Runs in a batch: short, so that what disturbs the machine disturbs both batches of a pair, or ruins one pair only. */
  readonly size: number
}

/**
 * How much longer one run of `subject` takes than one of `bare`, in nanoseconds: batches of each by turns, the one that
 * begins changing from pair to pair, and the median of the differences within pairs.
 */
export function pairedDifference (bare: () => void, subject: () => void, { pairs, size }: Batches): Estimate {
  const differences: number[] = []
  const warmUp = Math.ceil(pairs / 5)
  for (let pair = -warmUp; pair < pairs; pair++) {
    const bareFirst = pair % 2 === 0
    const first = timed(bareFirst ? bare : subject, size)
    const second = timed(bareFirst ? subject : bare, size)
    if (pair >= 0) differences.push(bareFirst ? second - first : first - second)
  }
  return estimate(differences)
}

/** Nanoseconds a run of `subject` takes, over many batches. */
export function duration (subject: () => void, { pairs, size }: Batches): Estimate {
  const durations: number[] = []
  const warmUp = Math.ceil(pairs / 5)
  for (let batch = -warmUp; batch < pairs; batch++) {
    const took = timed(subject, size)
    if (batch >= 0) durations.push(took)
  }
  return estimate(durations)
}

function timed (run: () => void, size: number): number {
  const start = performance.now()
  for (let i = 0; i < size; i++) run()
  return (performance.now() - start) * 1e6 / size
}

/** Nanoseconds that a single call takes, for what happens only once. The clock itself costs some tens of them. */
export function once (run: () => void): number {
  const start = process.hrtime.bigint()
  run()
  return Number(process.hrtime.bigint() - start)
}
