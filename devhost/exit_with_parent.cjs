// Loaded before Azurite: ends it when whoever started it has gone, however that came about.
process.stdin.on('end', () => process.kill(process.pid, 'SIGTERM')).resume();
process.stdin.unref(); // or waiting for that end would keep it alive
