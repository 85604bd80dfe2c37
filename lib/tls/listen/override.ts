/**
 * Puts methods of its own on an object that somebody else made.
 *
 * @returns what leaves it as it was
 */
export function patch<Target extends object> (target: Target, methods: Partial<Target>): () => void {
  const before = Reflect.ownKeys(methods).map((key) => [key, Reflect.getOwnPropertyDescriptor(target, key)] as const)
  Object.assign(target, methods)
  return () => {
    for (const [key, descriptor] of before) {
      Reflect.deleteProperty(target, key)
      if (descriptor !== undefined) Reflect.defineProperty(target, key, descriptor)
    }
  }
}
