" Tabwise in Vim 9 with vim-lsp (https://github.com/prabirshrestha/vim-lsp):
" source this from your vimrc, then complete with <C-x><C-o> in a Python file.
" vim-lsp knows no ghost text; the suggestion is the popup's item marked Tabwise.
augroup tabwise
  autocmd!
  autocmd User lsp_setup call lsp#register_server({
        \ 'name': 'tabwise',
        \ 'cmd': {server_info->['tabwise', 'lsp']},
        \ 'allowlist': ['python'],
        \ })
  autocmd FileType python setlocal omnifunc=lsp#complete
augroup END
