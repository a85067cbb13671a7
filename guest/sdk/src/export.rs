//! The exports of a guest.

/// Makes the exports of a guest for a type that implements [`Model`](crate::Model). Once per guest,
/// in a crate of type `cdylib`.
///
/// It makes [`Wiping`](crate::Wiping) the allocator of the guest. A guest with a `#[global_allocator]`
/// of its own says `export!(Model, own_allocator)`, and best wraps that one in `Wiping` itself: freed
/// memory that is not zeroed makes model images larger, and may show what was in the assets.
#[macro_export]
macro_rules! export {
    ($model:ty) => {
        $crate::export!($model, own_allocator);

        #[cfg(target_family = "wasm")]
        const _: () = {
            #[global_allocator]
            static ALLOCATOR: $crate::Wiping<::std::alloc::System> =
                $crate::Wiping::new(::std::alloc::System);
        };
    };
    ($model:ty, own_allocator) => {
        const _: () = {
            use ::std::cell::RefCell;
            use $crate::__private::{ABI_VERSION, Guest, end_load};

            ::std::thread_local! {
                static GUEST: RefCell<Guest<$model>> = const { RefCell::new(Guest::new()) };
            }

            // Names are exported in Wasm only: natively two guests can be linked into one test.

            /// Runs the constructors, of which tract has many: its kernels register themselves. In a
            /// module that calls them nowhere, the linker would have each export call all of them,
            /// each time.
            #[cfg(target_family = "wasm")]
            #[unsafe(no_mangle)]
            extern "C" fn _initialize() {
                unsafe extern "C" {
                    fn __wasm_call_ctors();
                }
                // SAFETY: the linker makes this function, of this type. The host calls `_initialize`
                // once and before everything else, so constructors run before any other code.
                unsafe { __wasm_call_ctors() }
            }

            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            #[allow(dead_code)]
            extern "C" fn fuelbox_abi() -> u32 {
                ABI_VERSION
            }

            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            #[allow(dead_code)]
            extern "C" fn fuelbox_alloc(len: u32) -> u32 {
                GUEST.with_borrow_mut(|guest| guest.alloc(len))
            }

            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            #[allow(dead_code)]
            extern "C" fn fuelbox_load(ptr: u32, len: u32) -> i64 {
                let reply = GUEST.with_borrow_mut(|guest| guest.load(ptr, len));
                end_load();
                reply
            }

            #[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
            #[allow(dead_code)]
            extern "C" fn fuelbox_run(ptr: u32, len: u32) -> i64 {
                GUEST.with_borrow_mut(|guest| guest.run(ptr, len))
            }
        };
    };
}
