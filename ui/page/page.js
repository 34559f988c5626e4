// What the browser knows: the thread in the address, the threads begun here, the language. Nothing is asked of another machine.
(() => {
  const NAME = /^[\w.:@-]{1,128}$/;
  const SURE = { en: 'Delete this conversation for good?', zh: '要永久删除这个对话吗？' };
  const read = (key, otherwise) => {
    try { return JSON.parse(localStorage.getItem(`crashcart.${key}`)) ?? otherwise; } catch { return otherwise; }
  };
  const write = (key, value) => {
    try { localStorage.setItem(`crashcart.${key}`, JSON.stringify(value)); } catch { /* a browser that keeps nothing */ }
  };
  const threads = () => { const kept = read('threads', []); return Array.isArray(kept) ? kept.slice(-500) : []; };
  const thread = () => new URLSearchParams(location.search).get('thread') ?? '';
  const address = (name) => {
    const url = new URL(location.href);
    if (name) url.searchParams.set('thread', name); else url.searchParams.delete('thread');
    return url;
  };
  const fresh = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');
  const browser = () => ((navigator.languages?.[0] ?? navigator.language ?? 'en').toLowerCase().startsWith('zh') ? 'zh' : 'en');

  const cart = {
    now() {
      const chosen = read('lang', '');
      const lang = chosen || browser();
      document.documentElement.lang = lang;
      return { thread: thread(), threads: threads(), lang, chosen: chosen !== '', wide: innerWidth >= 1024 };
    },
    begin() { // before a question is sent: its thread stands in the address, so that nothing after this can lose it
      const name = NAME.test(thread()) ? thread() : fresh();
      if (name !== thread()) history.replaceState(null, '', address(name));
      write('threads', [...threads().filter((each) => each !== name), name]);
      return cart.now();
    },
    go(name) {
      if (name !== thread()) history.pushState(null, '', address(name));
      if (!name) cart.uncover();
      return cart.now();
    },
    forget() {
      const gone = thread();
      if (gone && !confirm(SURE[document.documentElement.lang] ?? SURE.en)) return { ...cart.now(), kept: true };
      write('threads', threads().filter((each) => each !== gone));
      const said = cart.now();
      history.replaceState(null, '', address(''));
      return said;
    },
    turn() {
      write('lang', cart.now().lang === 'zh' ? 'en' : 'zh');
      return cart.now();
    },
    uncover() { // a narrow screen's panel covers the conversation
      if (innerWidth < 640 && document.querySelector('#threads.open')) cart.toggle('threads');
    },
    toggle(panel) { document.querySelector(`#${panel} .toggle-button`)?.click(); },
    save(file) {
      if (!file) return;
      const bytes = Uint8Array.from(atob(file.base64), (c) => c.charCodeAt(0));
      const link = document.createElement('a');
      link.href = URL.createObjectURL(new Blob([bytes], { type: file.type }));
      link.download = file.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    },
    // An answer is read from its start: the newest question is brought to the top once, and nothing scrolls after that.
    showQuestion() {
      const questions = document.querySelectorAll('#talk .user-row');
      const newest = [...questions].at(-1);
      if (newest && questions.length !== cart.shown) newest.scrollIntoView({ block: 'start' });
      cart.shown = questions.length;
    },
  };
  window.cart = cart;
  addEventListener('popstate', () => location.reload());
  document.addEventListener('click', (event) => {
    if (event.target.matches?.('#thread-list input')) cart.uncover();
    const cite = event.target.closest?.('#talk a.cite');
    if (!cite) return;
    event.preventDefault();
    const source = cite.closest('.message')?.querySelector(`details.evidence.${cite.textContent}`);
    for (let each = source; each; each = each.parentElement?.closest('details')) each.open = true;
    source?.scrollIntoView({ block: 'nearest' });
    source?.querySelector('summary')?.focus({ preventScroll: true });
  });
})();
