//! The key-value store in which processes find each other.

use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use crate::error::{Result, c_string, check};

unsafe extern "C" {
    fn tchd_store_tcp(
        host: *const c_char,
        port: u16,
        world_size: usize,
        is_server: bool,
        timeout_ms: i64,
        out: *mut *mut c_void,
        bound_port: *mut u16,
    ) -> c_int;
    fn tchd_store_set(store: *mut c_void, key: *const c_char, value: *const u8, n: usize) -> c_int;
    fn tchd_store_get(
        store: *mut c_void,
        key: *const c_char,
        timeout_ms: i64,
        user: *mut c_void,
        sink: extern "C" fn(*mut c_void, *const u8, usize),
    ) -> c_int;
    fn tchd_store_add(store: *mut c_void, key: *const c_char, amount: i64, sum: *mut i64) -> c_int;
    fn tchd_store_free(store: *mut c_void);
}

/// c10d's `TCPStore`. One process serves it, for as long as its `Store` lives; all connect to it.
#[derive(Debug)]
pub struct Store {
    handle: *mut c_void,
    port: u16,
}

// SAFETY: TCPStore guards its connection with a mutex.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Serves the store at `port` (0: a free one, see [`Store::port`]) where `is_server`, and connects to
    /// it. A client keeps trying to connect until `timeout`, which also bounds every later wait.
    ///
    /// # Errors
    /// [`Timeout`](crate::Error::Timeout) where no server answers in time,
    /// [`Distributed`](crate::Error::Distributed) where the port is taken or the host unknown.
    pub fn tcp(
        host: &str,
        port: u16,
        world_size: usize,
        is_server: bool,
        timeout: Duration,
    ) -> Result<Store> {
        let host = c_string("host name", host)?;
        let mut handle = std::ptr::null_mut();
        let mut bound = 0;
        // SAFETY: all pointers are valid during the call.
        check(unsafe {
            let ms = millis(Some(timeout));
            tchd_store_tcp(
                host.as_ptr(),
                port,
                world_size,
                is_server,
                ms,
                &mut handle,
                &mut bound,
            )
        })?;
        Ok(Store {
            handle,
            port: bound,
        })
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`Distributed`](crate::Error::Distributed) where the server is gone.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = c_string("key", key)?;
        // SAFETY: the handle is live and the slices are valid during the call.
        check(unsafe { tchd_store_set(self.handle, key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// The value of `key`, once some process has set it.
    ///
    /// # Errors
    /// [`Timeout`](crate::Error::Timeout) where nobody sets it within the store's timeout,
    /// [`Distributed`](crate::Error::Distributed) where the server is gone.
    pub fn get(&self, key: &str) -> Result<Vec<u8>> {
        self.get_within(key, None)
    }

    /// As [`Store::get`], with a timeout of its own.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn get_within(&self, key: &str, timeout: Option<Duration>) -> Result<Vec<u8>> {
        extern "C" fn sink(user: *mut c_void, value: *const u8, n: usize) {
            if n == 0 {
                return;
            }
            // SAFETY: `user` is the vector below, and the shim passes `n` bytes.
            unsafe {
                (*user.cast::<Vec<u8>>()).extend_from_slice(std::slice::from_raw_parts(value, n))
            }
        }
        let key = c_string("key", key)?;
        let mut value = Vec::new();
        let user = (&raw mut value).cast();
        // SAFETY: the handle is live, and `value` outlives the call that fills it.
        check(unsafe { tchd_store_get(self.handle, key.as_ptr(), millis(timeout), user, sink) })?;
        Ok(value)
    }

    /// Adds `amount` to the counter `key`, which starts at 0, and gives the sum. No two calls of any
    /// process interleave.
    ///
    /// # Errors
    /// [`Distributed`](crate::Error::Distributed) where the server is gone.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64> {
        let key = c_string("key", key)?;
        let mut sum = 0;
        // SAFETY: the handle is live and the pointers are valid during the call.
        check(unsafe { tchd_store_add(self.handle, key.as_ptr(), amount, &mut sum) })?;
        Ok(sum)
    }

    pub(crate) fn handle(&self) -> *mut c_void {
        self.handle
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by tchd_store_tcp and freed once.
        unsafe { tchd_store_free(self.handle) }
    }
}

/// Milliseconds for the shim, where 0 stands for "the default"; a timeout under 1 ms is 1 ms.
pub(crate) fn millis(timeout: Option<Duration>) -> i64 {
    timeout.map_or(0, |t| {
        i64::try_from(t.as_millis()).unwrap_or(i64::MAX / 2).max(1)
    })
}
