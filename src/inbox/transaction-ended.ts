/** Thrown by the `tx` of a transaction that has committed, failed or timed out: what comes late must not be written anywhere. */
export class TransactionEnded extends Error {
  override readonly name = "TransactionEnded"
  constructor() {
    super(
      "this transaction has ended, and nothing more can be read or written in it: await every statement before the handler returns, and stop when its signal is aborted",
    )
  }
}
